//! The shipper's end of the socket to its supervisor.

use super::worker::SupervisorGone;
use crate::protocol::{Decoder, Message};
use std::io;
use tokio::net::UnixStream;

/// The socket to the supervisor, and what was received over it.
pub(super) struct ControlStream {
    socket: UnixStream,
    pub(super) decoder: Decoder,
}

impl ControlStream {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, decoder: Decoder::default() }
    }

    /// Waits for bytes and adds them to the decoder.
    pub(super) async fn fill(&mut self) -> Result<(), SupervisorGone> {
        let mut bytes = [0; 4096];
        loop {
            self.socket.readable().await.map_err(|_| SupervisorGone)?;
            match self.socket.try_read(&mut bytes) {
                Ok(0) => return Err(SupervisorGone),
                Ok(got) => {
                    self.decoder.push(&bytes[..got]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(SupervisorGone),
            }
        }
    }

    /// Sends a message.
    pub(super) async fn send(&self, message: &impl Message) -> Result<(), SupervisorGone> {
        let mut bytes = Vec::with_capacity(256);
        message.write(&mut bytes);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.socket.writable().await.map_err(|_| SupervisorGone)?;
            match self.socket.try_write(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(SupervisorGone),
            }
        }
        Ok(())
    }
}
