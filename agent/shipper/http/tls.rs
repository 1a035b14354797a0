//! TLS 1.2 and 1.3 to drains, verified against the built-in roots and the user's CA bundles. There is no way to
//! turn verification off.

use super::error::is_ca_of_itself;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, version};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest CA bundle that is read: 20 times the size of Mozilla's.
const MAX_BUNDLE_BYTES: u64 = 4 << 20;
/// Number of servers whose session tickets are kept. A drain is one server.
const MAX_SESSIONS: usize = 8;

/// Why a CA bundle cannot be used. Names the file and the position in it.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The file cannot be read.
    Unreadable {
        /// The CA bundle.
        file: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// The file is larger than 4 MiB.
    TooLarge {
        /// The CA bundle.
        file: PathBuf,
    },
    /// The file holds no `BEGIN CERTIFICATE`.
    Empty {
        /// The CA bundle.
        file: PathBuf,
    },
    /// A PEM section is damaged (RFC 7468).
    Damaged {
        /// The CA bundle.
        file: PathBuf,
        /// Number of the section, from 1.
        entry: usize,
        /// Byte offset in the file at which parsing stopped.
        byte: usize,
        /// What is wrong, as text.
        reason: String,
    },
    /// A section is well-formed PEM, but not an X.509 certificate that can be a trust anchor.
    Unusable {
        /// The CA bundle.
        file: PathBuf,
        /// Number of the certificate, from 1.
        entry: usize,
        /// Byte offset in the file at which its section ends.
        byte: usize,
        /// What is wrong, as text.
        reason: String,
    },
    /// rustls refused its own default settings: a bug of the agent.
    Library(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => {
                write!(f, "cannot read the CA bundle {}: {error}", file.display())
            }
            Self::TooLarge { file } => {
                write!(f, "the CA bundle {} is larger than {} MiB", file.display(), MAX_BUNDLE_BYTES >> 20)
            }
            Self::Empty { file } => write!(
                f,
                "no certificate in the CA bundle {}: expected PEM, with lines `-----BEGIN CERTIFICATE-----`",
                file.display()
            ),
            Self::Damaged { file, entry, byte, reason } => {
                write!(
                    f,
                    "the CA bundle {} is damaged in entry {entry}, before byte {byte}: {reason}",
                    file.display()
                )
            }
            Self::Unusable { file, entry, byte, reason } => write!(
                f,
                "certificate {entry} of the CA bundle {}, which ends at byte {byte}, cannot be trusted: {reason}; \
                 expected an X.509 certificate",
                file.display()
            ),
            Self::Library(error) => write!(f, "cannot set up TLS: {error}"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { error, .. } => Some(error),
            Self::Library(error) => Some(error),
            _ => None,
        }
    }
}

/// The TLS settings of all drains: TLS 1.2 and 1.3 with ring, Mozilla's roots and those of `ca_files` (PEM), no client
/// certificate, few session tickets.
///
/// # Errors
/// The first problem that is found in a bundle.
pub fn client_config(ca_files: &[PathBuf]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut trust = Trust::built_in();
    match ca_files.iter().flat_map(|file| trust.add_bundle(file)).next() {
        Some(problem) => Err(problem),
        None => trust.client_config(),
    }
}

/// What is trusted.
#[derive(Debug)]
pub struct Trust {
    roots: RootCertStore,
    /// The certificates of the CA bundles.
    bundled: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Mozilla's roots.
    pub fn built_in() -> Self {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Self { roots, bundled: Vec::new() }
    }

    /// Adds what can be read of a CA bundle. Returns the problems with the rest.
    pub fn add_bundle(&mut self, file: &Path) -> Vec<TlsError> {
        let pem = match read_bundle(file) {
            Ok(pem) => pem,
            Err(error) => return vec![error],
        };
        let mut problems = Vec::new();
        let mut sections = CertificateDer::pem_slice_iter(&pem);
        let (mut entry, mut position) = (0, 0);
        while let Some(section) = sections.next() {
            entry += 1;
            let byte = pem.len() - sections.remainder().len();
            match section {
                Ok(certificate) => match self.roots.add(certificate.clone()) {
                    Ok(()) => self.bundled.push(certificate),
                    Err(error) => problems.push(TlsError::Unusable {
                        file: file.to_owned(),
                        entry,
                        byte,
                        reason: error.to_string(),
                    }),
                },
                Err(error) => {
                    let reason = pem_error_text(error);
                    problems.push(TlsError::Damaged { file: file.to_owned(), entry, byte, reason });
                    if byte == position {
                        break; // the parser cannot pass it over
                    }
                }
            }
            position = byte;
        }
        if entry == 0 {
            problems.push(TlsError::Empty { file: file.to_owned() });
        }
        problems
    }

    /// The TLS settings with which this is trusted.
    ///
    /// # Errors
    /// [`TlsError::Library`].
    pub fn client_config(self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots), Arc::clone(&provider)).build();
        let webpki =
            verifier.map_err(|error| TlsError::Library(rustls::Error::General(error.to_string())))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(TlsError::Library)?
            .dangerous() // as rustls calls every verifier but its own; ours refuses what that one refuses, see below
            .with_custom_certificate_verifier(Arc::new(DrainVerifier { webpki, bundled: self.bundled }))
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(MAX_SESSIONS);
        Ok(Arc::new(config))
    }
}

/// Verifies as webpki does, with one addition: a server may use the certificate of an authority, as `openssl req -x509`
/// makes it, where exactly that one is in a CA bundle. OpenSSL accepts it, too. Its name and its dates are checked as
/// those of any other.
#[derive(Debug)]
struct DrainVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    bundled: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for DrainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // webpki has checked the dates before it looks whether this is the certificate of an authority.
            Err(rustls::Error::InvalidCertificate(error))
                if is_ca_of_itself(&error) && self.bundled.iter().any(|bundled| bundled == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

fn read_bundle(file: &Path) -> Result<Vec<u8>, TlsError> {
    let mut pem = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(MAX_BUNDLE_BYTES + 1).read_to_end(&mut pem))
        .map_err(|error| TlsError::Unreadable { file: file.to_owned(), error })?;
    if pem.len() as u64 > MAX_BUNDLE_BYTES {
        Err(TlsError::TooLarge { file: file.to_owned() })
    } else {
        Ok(pem)
    }
}

fn pem_error_text(error: PemError) -> String {
    match error {
        PemError::MissingSectionEnd { end_marker } => {
            format!("expected the line `-----END {}-----`", String::from_utf8_lossy(&end_marker))
        }
        PemError::IllegalSectionStart { .. } => "expected `-----BEGIN CERTIFICATE-----`".to_owned(),
        PemError::Base64Decode(_) => "expected base64 between the BEGIN and END lines".to_owned(),
        other => other.to_string(),
    }
}
