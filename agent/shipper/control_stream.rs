//! The shipper's end of the socket to its supervisor.

use crate::protocol::{Decoder, Message};
use std::io;
use tokio::net::UnixStream;

/// The socket to the keeper.
pub(super) struct Post<'a> {
    pub(super) control: &'a UnixStream,
    pub(super) decoder: Decoder,
}

impl Post<'_> {
    /// Reads what there is; false when the keeper is gone.
    pub(super) async fn fill(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            if self.control.readable().await.is_err() {
                return false;
            }
            match self.control.try_read(&mut bytes) {
                Ok(0) => return false,
                Ok(got) => {
                    self.decoder.push(&bytes[..got]);
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
    }

    /// Sends a message; false when the keeper is gone.
    pub(super) async fn send(&self, message: &impl Message) -> bool {
        let mut bytes = Vec::with_capacity(256);
        message.write(&mut bytes);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if self.control.writable().await.is_err() {
                return false;
            }
            match self.control.try_write(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        true
    }
}
