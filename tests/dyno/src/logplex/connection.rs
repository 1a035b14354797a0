//! A persistent HTTPS connection to the drain.

use super::Destination;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

type BoxError = Box<dyn Error + Send + Sync>;

pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    uri: Uri,
    authority: String,
}

impl Connection {
    /// Connects to the host of the destination's URL, and verifies its certificate.
    pub(super) async fn open(destination: &Destination) -> Result<Self, BoxError> {
        let uri: Uri = destination.url.parse()?;
        let host = uri.host().ok_or("no host")?.to_owned();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&destination.ca_file)? {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
        let name = ServerName::try_from(host)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The task ends when `sender` is dropped, or the drain closes the connection.
        drop(tokio::spawn(connection));
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Self { sender, uri, authority })
    }

    /// Posts a batch; returns the status of the response.
    pub(super) async fn post(
        &mut self,
        body: &[u8],
        count: u64,
        id: &str,
        token: &str,
    ) -> Result<u16, BoxError> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::post(path)
            .header("Host", &self.authority)
            .header("Content-Type", "application/logplex-1")
            .header("Logplex-Msg-Count", count)
            .header("Logplex-Frame-Id", id)
            .header("Logplex-Drain-Token", token)
            .header("User-Agent", "Logplex/simulated")
            .body(Full::new(Bytes::copy_from_slice(body)))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await?;
        Ok(status)
    }
}
