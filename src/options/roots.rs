//! The authorities of `--tls-root-ca-file`.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Those the machine trusts.
pub fn native_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // What cannot be read is trusted by nobody; a connection that needs it says so.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Reads the certificates of a PEM file. As in Go, what is none in it is passed over as long as
/// there is one at all.
///
/// # Errors
/// NSQ's text, when the file cannot be read or has no certificate.
pub fn read_roots(path: &str) -> Result<RootCertStore, String> {
    let text = super::read_file(path)?;
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        return Err("failed to append certificate to pool".to_owned());
    }
    Ok(roots)
}
