//! TLS 1.2 and 1.3 towards drains: verified against the built-in roots and the owner's own bundles. Nothing
//! here turns verification off.

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::{ClientConfig, RootCertStore, version};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest bundle that is read, in bytes: the whole of Mozilla's is a twentieth of it.
const MAX_BUNDLE: u64 = 4 << 20;
/// Servers whose session tickets are kept: a drain is one.
const SESSIONS: usize = 4;

/// Why a bundle cannot be trusted. Each names the file, and the place in it.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The file cannot be read.
    Unreadable {
        /// The bundle.
        file: PathBuf,
        /// What the system response_text.
        error: io::Error,
    },
    /// The file is larger than 4 MiB.
    TooLarge {
        /// The bundle.
        file: PathBuf,
    },
    /// The file holds no `BEGIN CERTIFICATE`.
    Empty {
        /// The bundle.
        file: PathBuf,
    },
    /// A PEM section is damaged (RFC 7468).
    Damaged {
        /// The bundle.
        file: PathBuf,
        /// Which section, from 1.
        entry: usize,
        /// Where reading stopped, in bytes from the start of the file.
        byte: usize,
        /// What is wrong.
        why: String,
    },
    /// A section is whole, but no X.509 certificate that can be a trust anchor.
    Unusable {
        /// The bundle.
        file: PathBuf,
        /// Which certificate, from 1.
        entry: usize,
        /// Where its section ends, in bytes from the start of the file.
        byte: usize,
        /// What is wrong.
        why: String,
    },
    /// The library refused its own defaults: a bug of ours.
    Library(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => {
                write!(f, "cannot read the CA bundle {}: {error}", file.display())
            }
            Self::TooLarge { file } => {
                write!(f, "the CA bundle {} is larger than {} MiB", file.display(), MAX_BUNDLE >> 20)
            }
            Self::Empty { file } => write!(
                f,
                "no certificate in the CA bundle {}: expected PEM, with lines `-----BEGIN CERTIFICATE-----`",
                file.display()
            ),
            Self::Damaged { file, entry, byte, why } => {
                write!(
                    f,
                    "the CA bundle {} is damaged in entry {entry}, before byte {byte}: {why}",
                    file.display()
                )
            }
            Self::Unusable { file, entry, byte, why } => write!(
                f,
                "certificate {entry} of the CA bundle {}, which ends at byte {byte}, cannot be trusted: {why}; \
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

/// What all drains share: TLS 1.2 and 1.3 by ring, Mozilla's roots and those of `ca_files` (PEM), no client
/// certificate, few session tickets.
///
/// # Errors
/// The first problem of the first bundle that has one.
pub fn client_config(ca_files: &[PathBuf]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for file in ca_files {
        add_bundle(&mut roots, file)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(TlsError::Library)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(Arc::new(config))
}

fn add_bundle(roots: &mut RootCertStore, file: &Path) -> Result<(), TlsError> {
    let pem = read(file)?;
    let mut sections = CertificateDer::pem_slice_iter(&pem);
    let mut entry = 0;
    while let Some(section) = sections.next() {
        entry += 1;
        let byte = pem.len() - sections.remainder().len();
        let certificate = section.map_err(|error| TlsError::Damaged {
            file: file.to_owned(),
            entry,
            byte,
            why: pem_words(error),
        })?;
        roots.add(certificate).map_err(|error| TlsError::Unusable {
            file: file.to_owned(),
            entry,
            byte,
            why: error.to_string(),
        })?;
    }
    if entry == 0 { Err(TlsError::Empty { file: file.to_owned() }) } else { Ok(()) }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let mut pem = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(MAX_BUNDLE + 1).read_to_end(&mut pem))
        .map_err(|error| TlsError::Unreadable { file: file.to_owned(), error })?;
    if pem.len() as u64 > MAX_BUNDLE { Err(TlsError::TooLarge { file: file.to_owned() }) } else { Ok(pem) }
}

fn pem_words(error: PemError) -> String {
    match error {
        PemError::MissingSectionEnd { end_marker } => {
            format!("expected the line `-----END {}-----`", String::from_utf8_lossy(&end_marker))
        }
        PemError::IllegalSectionStart { .. } => "expected `-----BEGIN CERTIFICATE-----`".to_owned(),
        PemError::Base64Decode(_) => "expected base64 between the BEGIN and END lines".to_owned(),
        other => other.to_string(),
    }
}
