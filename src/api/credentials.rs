//! Who we are to the services.

use std::sync::{Arc, PoisonError, RwLock};

use super::Secret;

/// Taskcluster credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The client's id.
    pub client_id: String,
    /// The key that signs.
    pub access_token: Secret,
    /// For temporary credentials: the certificate, as JSON text.
    pub certificate: Option<Secret>,
}

/// The newest credentials of one owner. Clones share them, so that a renewal reaches every call that is made after it.
#[derive(Debug, Clone)]
pub struct CredentialsCell(Arc<RwLock<Option<Arc<Credentials>>>>);

impl CredentialsCell {
    /// A cell with these credentials.
    pub fn new(credentials: Credentials) -> Self {
        Self(Arc::new(RwLock::new(Some(Arc::new(credentials)))))
    }

    /// A cell without any: calls are made unsigned.
    pub fn anonymous() -> Self {
        Self(Arc::new(RwLock::new(None)))
    }

    /// The newest credentials, if there are any.
    pub fn get(&self) -> Option<Arc<Credentials>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces them.
    pub fn set(&self, credentials: Credentials) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(credentials));
    }
}
