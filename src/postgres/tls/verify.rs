//! Whether the certificate of a server proves enough.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use super::super::conninfo::Proof;
use super::files::KnownRoots;
use crate::error::{Code, Error, Result};

/// A verifier for which any certificate will do.
pub(super) fn anybody(provider: &Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anybody(Arc::clone(provider)))
}

/// A verifier that wants the signature of a root, and the name of the host if that has to be proven, too.
pub(super) fn signed_by(
    roots: KnownRoots,
    revoked: Vec<CertificateRevocationListDer<'static>>,
    proof: Proof,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>> {
    let mut store = RootCertStore::empty();
    for (number, certificate) in (1..).zip(&roots.certificates) {
        match store.add(certificate.clone()) {
            Ok(()) => {}
            // one that nobody can read is no reason not to use the others of this machine
            Err(_) if roots.are_systems => {}
            Err(e) => {
                let what = format!("{}: certificate {number} cannot be read", roots.place);
                return Err(Error::new(Code::Usage, what).because(e));
            }
        }
    }
    let builder = WebPkiServerVerifier::builder_with_provider(store.into(), Arc::clone(provider));
    let chain = builder.with_crls(revoked).build().map_err(|e| {
        Error::new(Code::Usage, format!("{}: cannot be used", roots.place)).because(e)
    })?;
    Ok(Arc::new(SignedBy { chain, roots: roots.certificates, proof }))
}

/// libpq's verify-ca and verify-full.
#[derive(Debug)]
struct SignedBy {
    chain: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
    proof: Proof,
}

impl ServerCertVerifier for SignedBy {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        let chain = &self.chain;
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // the name is what is verified last
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.proof == Proof::Root => Ok(ServerCertVerified::assertion()),
            // a server that has the root itself, as after `openssl req -x509`: it is verified but for its role
            Err(e) if is_ca_as_server(&e) && self.roots.iter().any(|root| root == end_entity) => {
                match self.proof {
                    Proof::RootAndName => {
                        let parsed = ParsedCertificate::try_from(end_entity)?;
                        verify_server_name(&parsed, server_name)?;
                        Ok(ServerCertVerified::assertion())
                    }
                    Proof::Root | Proof::Nothing => Ok(ServerCertVerified::assertion()),
                }
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Whether a certificate that may sign others is shown as that of a server; its dates are in order then.
pub(super) fn is_ca_as_server(error: &TlsError) -> bool {
    is_other(error, "CaUsedAsEndEntity")
}

/// Whether it is an error of the reader of certificates that has no variant of its own.
pub(super) fn is_other(error: &TlsError, name: &str) -> bool {
    matches!(error, TlsError::InvalidCertificate(CertificateError::Other(other))
        if format!("{other:?}").contains(name))
}

/// libpq's `require` without a root: the connection is encrypted, whichever server answers.
///
/// Signatures are not looked at, either: they would prove that a server has the key of a certificate that proves nothing,
/// and could not be verified for certificates of version 1.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
