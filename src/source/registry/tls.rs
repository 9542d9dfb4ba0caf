//! HTTPS for a registry that is not next door: whom the machine trusts is trusted.

use std::sync::Arc;

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::RegistryError;

/// TLS with the machine's root certificates, or those that `SSL_CERT_FILE` names.
pub fn config() -> Result<TlsConfig, RegistryError> {
    let roots = rustls_native_certs::load_native_certs().certs;
    if roots.is_empty() {
        return Err(RegistryError::BadUrl(
            "is at https://, but this machine has no root certificates; SSL_CERT_FILE names some",
        ));
    }
    let roots = roots.iter();
    let roots = roots.map(|root| Certificate::from_der(root).to_owned());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}
