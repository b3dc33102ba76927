//! Certificates made for one run of a test program: an authority, a server's, and clients'.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// The common name of the client's certificate that the authority has signed.
pub(crate) const CLIENT_NAME: &str = "test.local";

/// Files in PEM.
pub(crate) struct Certificates {
    directory: PathBuf,
}

/// Whose certificate a client shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Nothing,
    /// Signed by the authority.
    Signed,
    /// Signed by itself.
    Unrelated,
}

/// The certificates of this run.
pub(crate) static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let directory = directory.join(format!("certificates-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("the directory for tests can be written");
    let made = Certificates { directory };
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    made.write("ca", &params.self_signed(&key).expect("a certificate").pem(), "");
    let authority = Issuer::new(params, key);
    made.make_server("server", &authority);
    made.make_server("other-server", &authority);
    made.make_client("client", CLIENT_NAME, Some(&authority));
    made.make_client("unrelated", "unrelated", None);
    made
});

impl Certificates {
    /// A file: `ca.pem`, `server.pem`, `server.key`, `client.pem` and so on.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// `--tls-cert` and `--tls-key`, and what is given beside them.
    pub(crate) fn flags(&self, others: &[&str]) -> Vec<String> {
        let mut flags = vec![
            format!("--tls-cert={}", self.path("server.pem").display()),
            format!("--tls-key={}", self.path("server.key").display()),
        ];
        flags.extend(others.iter().map(|flag| (*flag).to_owned()));
        flags
    }

    /// `--tls-root-ca-file`.
    pub(crate) fn root_flag(&self) -> String {
        format!("--tls-root-ca-file={}", self.path("ca.pem").display())
    }

    /// A client that takes any server, and shows a certificate.
    pub(crate) fn client(&self, shown: Shown) -> Arc<ClientConfig> {
        self.client_with(shown, rustls::ALL_VERSIONS)
    }

    pub(crate) fn client_with(
        &self,
        shown: Shown,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("versions that there are")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
        let name = match shown {
            Shown::Nothing => return Arc::new(builder.with_no_client_auth()),
            Shown::Signed => "client",
            Shown::Unrelated => "unrelated",
        };
        let certificate = CertificateDer::from_pem_file(self.path(&format!("{name}.pem")));
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key")));
        let chain = vec![certificate.expect("a certificate")];
        let config = builder.with_client_auth_cert(chain, key.expect("a key"));
        Arc::new(config.expect("they belong together"))
    }

    fn make_server(&self, name: &str, authority: &Issuer<'_, KeyPair>) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("plain names");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, authority).expect("a certificate");
        self.write(name, &certificate.pem(), &key.serialize_pem());
    }

    fn make_client(&self, name: &str, common_name: &str, authority: Option<&Issuer<'_, KeyPair>>) {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = match authority {
            Some(authority) => params.signed_by(&key, authority),
            None => params.self_signed(&key),
        };
        self.write(name, &certificate.expect("a certificate").pem(), &key.serialize_pem());
    }

    fn write(&self, name: &str, certificate: &str, key: &str) {
        fs::write(self.path(&format!("{name}.pem")), certificate).expect("a new file");
        fs::write(self.path(&format!("{name}.key")), key).expect("a new file");
    }
}

/// Takes any server.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
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
