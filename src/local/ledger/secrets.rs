//! What the server itself has to keep secret. It stays the same over restarts, so that credentials and URLs that were given out before stay good.
//!
//! The file of records and the directory are readable for their owner only.

use std::{io, path::Path};

use super::{Kind, Ledger, OpenError, file};
use crate::seam::{Random, slugid};

const SERVER: Kind = "server";

/// The server's own secrets. Not `Debug`.
pub(crate) struct Secrets {
    /// Signs the credentials of runs.
    pub(crate) queue_token: String,
    /// Signs the URLs of the store.
    pub(crate) store_key: String,
}

impl Secrets {
    /// Those that were kept, or new ones.
    pub(crate) fn of(ledger: &Ledger, random: &dyn Random) -> Result<Self, OpenError> {
        let kept = ledger.load(SERVER)?;
        let secret = |name: &str| {
            let known = kept.iter().find(|(key, _)| key == name).and_then(|(_, bytes)| String::from_utf8(bytes.clone()).ok());
            known.filter(|known| !known.is_empty()).unwrap_or_else(|| {
                let made = token(random);
                ledger.put(SERVER, name, made.clone().into_bytes());
                made
            })
        };
        Ok(Self { queue_token: secret("queue-token"), store_key: secret("store-key") })
    }
}

fn token(random: &dyn Random) -> String {
    slugid(random) + &slugid(random)
}

/// The access token of this data directory's own client: in a file for scripts to read, made when it is asked for the first time.
pub(crate) fn access_token(dir: &Path, random: &dyn Random) -> io::Result<String> {
    let path = dir.join("access-token");
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("access token \"{}\": {error}", path.display()));
    file::make_dir(dir)
        .map_err(|error| io::Error::new(error.kind(), format!("data directory \"{}\": {error}", dir.display())))?;
    file::make_once(&path, token(random).as_bytes()).map_err(failed)?;
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it holds no token; remove it to get another one")));
    }
    Ok(text.to_owned())
}
