//! Who is the peer of a TLS connection? Keys and certificates of the SSL table, made into rustls configurations.
//!
//! As Open vSwitch does, both sides present a certificate and a peer is trusted when its chain leads to the CA; names
//! in certificates are not compared with addresses.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// Files that say who we are and whom we trust: a row of the SSL table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// PEM private key.
    pub private_key: PathBuf,
    /// PEM certificate for it.
    pub certificate: PathBuf,
    /// PEM certificates of the CA that signs peers.
    pub ca_cert: PathBuf,
    /// When `ca_cert` does not exist, take it from the first server that is connected to.
    pub bootstrap: bool,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The SSL table is empty.
    #[error("no private key, certificate and CA certificate are configured (ovs-vsctl set-ssl)")]
    NotConfigured,
    /// A file cannot be read or holds no PEM of that kind.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The keys do not fit together.
    #[error("TLS configuration: {0}")]
    Config(String),
}

/// Both sides' configurations, as of one reading of the files.
#[derive(Clone)]
struct Built {
    stamps: [Option<SystemTime>; 3],
    server: Option<Arc<ServerConfig>>,
    client: Arc<ClientConfig>,
}

/// TLS for every stream of the switch. Files are read again when they have changed.
#[derive(Default)]
pub(crate) struct Tls {
    files: Mutex<(Option<TlsFiles>, Option<Built>)>,
}

impl Tls {
    /// Replaces the files.
    pub(crate) fn set(&self, files: Option<TlsFiles>) {
        let mut state = self.lock();
        if state.0 != files {
            *state = (files, None);
        }
    }

    /// The configuration to accept connections with.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        self.built()?.server.ok_or_else(|| TlsError::Config("the CA certificate is not known yet".into()))
    }

    /// The configuration to connect with.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        Ok(self.built()?.client)
    }

    /// After a handshake with a server: keeps its CA certificate when that was to be learned. True: reconnect now.
    pub(crate) fn bootstrap(&self, chain: Option<&[CertificateDer<'_>]>) -> Result<bool, TlsError> {
        let state = self.lock();
        let Some(files) = state.0.as_ref().filter(|f| f.bootstrap && !f.ca_cert.exists()) else {
            return Ok(false);
        };
        let chain = chain.unwrap_or_default();
        let ca = chain.last().ok_or_else(|| TlsError::Config("the server sent no certificate".into()))?;
        signs(ca, chain)
            .map_err(|e| TlsError::Config(format!("the server did not send its CA certificate: {e}")))?;
        let path = &files.ca_cert;
        write_new(path, &pem("CERTIFICATE", ca)).map_err(|e| file_error(path, e))?;
        tracing::info!("learned the CA certificate of the peer into {}", path.display());
        Ok(true)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Option<TlsFiles>, Option<Built>)> {
        self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn built(&self) -> Result<Built, TlsError> {
        let mut state = self.lock();
        let files = state.0.clone().ok_or(TlsError::NotConfigured)?;
        let stamps = [&files.private_key, &files.certificate, &files.ca_cert].map(|p| modified(p));
        if let Some(built) = state.1.as_ref().filter(|b| b.stamps == stamps) {
            return Ok(built.clone());
        }
        let built = build(&files, stamps)?;
        state.1 = Some(built.clone());
        Ok(built)
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|m| m.modified()).ok()
}

fn file_error(path: &Path, why: impl std::fmt::Display) -> TlsError {
    TlsError::File { path: path.display().to_string(), why: why.to_string() }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = fs::read(path).map_err(|e| file_error(path, e))?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certs = certs.map_err(|e| file_error(path, e))?;
    if certs.is_empty() { Err(file_error(path, "no certificate in PEM form")) } else { Ok(certs) }
}

fn build(files: &TlsFiles, stamps: [Option<SystemTime>; 3]) -> Result<Built, TlsError> {
    let config = |e: rustls::Error| TlsError::Config(e.to_string());
    let chain = certificates(&files.certificate)?;
    let key_bytes = fs::read(&files.private_key).map_err(|e| file_error(&files.private_key, e))?;
    let key = || PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|e| file_error(&files.private_key, e));
    let roots = if files.bootstrap && stamps[2].is_none() { None } else { Some(trust(&files.ca_cert)?) };

    let server = match &roots {
        None => None,
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider())
                .build()
                .map_err(|e| TlsError::Config(e.to_string()))?;
            let server = ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .map_err(config)?
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain.clone(), key()?)
                .map_err(config)?;
            Some(Arc::new(server))
        }
    };
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ChainVerifier { roots }))
        .with_client_auth_cert(chain, key()?)
        .map_err(config)?;
    Ok(Built { stamps, server, client: Arc::new(client) })
}

fn trust(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(path)? {
        roots.add(cert).map_err(|e| file_error(path, e))?;
    }
    Ok(Arc::new(roots))
}

/// Trusts a server whose chain leads to the CA, whatever its name; without CA (bootstrap), any server, once.
#[derive(Debug)]
struct ChainVerifier {
    roots: Option<Arc<RootCertStore>>,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let algorithms = provider().signature_verification_algorithms.all;
            let cert = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(&cert, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Whether `ca` is what the first certificate of the chain rests on.
fn signs(ca: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    let [end_entity, between @ ..] = chain else { return Err(rustls::Error::NoCertificatesPresented) };
    let cert = ParsedCertificate::try_from(end_entity)?;
    let algorithms = provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&cert, &roots, between, UnixTime::now(), algorithms)
}

/// RFC 7468 text of `der`.
fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let bits = three.iter().fold(0u32, |acc, b| acc << 8 | u32::from(*b)) << (8 * (3 - three.len()));
            for i in 0..4 {
                let symbol = ALPHABET[(bits >> (18 - 6 * i)) as usize & 63];
                out.push(if i <= three.len() { symbol as char } else { '=' });
            }
        }
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_round_trips_every_length() {
        for len in 1..200usize {
            let der: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let text = pem("CERTIFICATE", &der);
            let back = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            assert_eq!(back.as_ref(), &der[..], "length {len}");
        }
    }

    #[test]
    fn without_files_there_is_no_tls() {
        assert!(matches!(Tls::default().server(), Err(TlsError::NotConfigured)));
    }
}
