//! Archives of images, as an engine asks for them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tc_engine::{EngineError, ImageBytes, ImageStream};

use super::{Packing, Source, Stream, open};

/// An image's archive at a source.
pub struct ImageArchive(Arc<dyn Source>);

impl ImageArchive {
    /// The archive that this source has.
    pub fn new(source: impl Source) -> Self {
        Self(Arc::new(source))
    }
}

#[async_trait]
impl ImageBytes for ImageArchive {
    async fn open(&self) -> Result<Box<dyn ImageStream>, EngineError> {
        Ok(Box::new(open(Arc::clone(&self.0), Packing::Unpack)))
    }
}

#[async_trait]
impl ImageStream for Stream {
    async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        Ok(Self::next(self).await?)
    }

    fn sha256(&self) -> Option<[u8; 32]> {
        Self::sha256(self)
    }

    fn downloaded(&self) -> (u64, Option<u64>) {
        self.fetched()
    }
}
