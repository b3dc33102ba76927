//! The TLS that clients are offered: certificate, versions, and what is asked of their own.

use super::roots::{native_roots, read_roots};
use super::{Options, TlsVersion};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, InconsistentKeys, ServerConfig,
    SignatureScheme, SupportedProtocolVersion, client::danger::HandshakeSignatureValid,
};
use std::sync::Arc;

/// What TLS itself calls its version 1.2, the lowest there is here.
const TLS_1_2: u16 = 0x0303;

/// Reads the files that `--tls-cert` and its kin name; `None` without a certificate.
///
/// # Errors
/// NSQ's text after `failed to build TLS config - `.
pub fn server_tls(options: &Options) -> Result<Option<Arc<ServerConfig>>, String> {
    if options.tls_cert.is_empty() && options.tls_key.is_empty() {
        return Ok(None);
    }
    let provider = Arc::new(ring::default_provider());
    let certified = read_key_pair(options, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(options.tls_min_version.and_above())
        .map_err(|error| error.to_string())?;
    let builder = match options.tls_client_auth_policy.as_str() {
        "require" => builder.with_client_cert_verifier(Arc::new(AnyCertificate(provider))),
        "require-verify" => {
            let roots = match options.tls_root_ca_file.as_str() {
                "" => native_roots(),
                path => read_roots(path)?,
            };
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    // Connections last; a store of sessions would be shared between shards for nothing.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Some(Arc::new(config)))
}

/// What to tell an operator whose `--tls-min-version` allows what is not there.
pub fn version_note(options: &Options) -> Option<String> {
    let asked = match options.tls_min_version.0 {
        version if version >= TLS_1_2 => return None,
        0x0302 => "1.1",
        _ => "1.0",
    };
    (!options.tls_cert.is_empty()).then(|| {
        format!(
            "TLS: --tls-min-version allows {asked}, but versions below 1.2 are not safe and not \
             offered: clients need TLS 1.2 or 1.3"
        )
    })
}

impl TlsVersion {
    /// The versions there are, from this one on.
    pub(crate) fn and_above(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
        if self.0 > TLS_1_2 { &ALL[1..] } else { &ALL }
    }
}

/// Certificate and key, which belong together; texts as Go words them.
fn read_key_pair(options: &Options, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let text = super::read_file(&options.tls_cert)?;
    let key = super::read_file(&options.tls_key)?;
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    let certificates: Vec<_> = certificates.filter_map(Result::ok).collect();
    if certificates.is_empty() {
        return Err("tls: failed to find any PEM data in certificate input".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| "tls: failed to find any PEM data in key input".to_owned())?;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|_| "tls: failed to parse private key".to_owned())?;
    let certified = CertifiedKey::new(certificates, key);
    match certified.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("tls: private key does not match public key".to_owned())
        }
        Err(Error::InvalidCertificate(reason)) => {
            Err(format!("x509: malformed certificate: {reason:?}"))
        }
        _ => Ok(certified),
    }
}

/// Demands a certificate, and that the client has its key; trusts any.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
