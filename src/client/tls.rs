//! TLS settings from a [`Config`]: which authorities, which certificate, which versions.

use super::config::{Config, TlsMinVersion};
use super::error::Error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, version};
use std::path::Path;
use std::sync::Arc;

/// Reads what the settings name.
///
/// # Errors
/// [`Error::Setting`] when a file cannot be read or holds no certificate.
pub(crate) fn client_config(config: &Config) -> Result<Arc<ClientConfig>, Error> {
    if let Some(given) = &config.tls_config {
        return Ok(Arc::clone(given));
    }
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = match config.tls_min_version {
        TlsMinVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        TlsMinVersion::Tls13 => &[&version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(versions);
    let builder = builder.map_err(|error| setting(&format!("TLS: {error}")))?;
    let builder = if config.tls_insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(config.tls_root_ca_file.as_deref())?)
    };
    let client = match (&config.tls_cert, &config.tls_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let certificates = read_certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key);
            let key = key.map_err(|error| setting(&format!("tls_key: {error}")))?;
            let client = builder.with_client_auth_cert(certificates, key);
            client.map_err(|error| setting(&format!("tls_cert and tls_key: {error}")))?
        }
        _ => return Err(setting("tls_cert and tls_key go together")),
    };
    Ok(Arc::new(client))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let certificates = match file {
        Some(file) => read_certificates(file)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(setting("no certificate authority is known: set tls_root_ca_file"));
    }
    Ok(roots)
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let fault = |error| setting(&format!("{}: {error}", file.display()));
    let certificates = CertificateDer::pem_file_iter(file).map_err(fault)?;
    certificates.collect::<Result<_, _>>().map_err(fault)
}

fn setting(text: &str) -> Error {
    Error::Setting(text.into())
}

/// Takes any certificate, for who has asked for it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
