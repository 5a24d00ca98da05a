//! TLS: what a certificate has to prove, and the files that this takes.
//!
//! `verify` decides about the certificate of a server, `files` reads those of the user, and `explain` says what is wrong
//! with either.

mod explain;
mod files;
mod verify;

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, ConfigBuilder, SupportedProtocolVersion};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::conninfo::{ConnInfo, Proof, TlsSettings, TlsVersion};
use crate::error::{Code, Error, Result};

pub(super) use explain::{explained, reason, unverified};

/// What the protocol is called when TLS begins at once.
const ALPN: &[u8] = b"postgresql";

/// Everything that is needed to encrypt the connections to the hosts of a connection string.
#[derive(Clone)]
pub(super) struct Encryption(Vec<(Proof, MakeRustlsConnect)>);

impl Encryption {
    /// Reads the files that the hosts need.
    ///
    /// # Errors
    /// If one is missing, cannot be read or holds something else.
    pub(super) fn prepare(info: &ConnInfo) -> Result<Encryption> {
        let mut prepared: Vec<(Proof, MakeRustlsConnect)> = Vec::new();
        for host in &info.hosts {
            let (_, proof) = info.tls_at(host);
            if prepared.iter().all(|(known, _)| *known != proof) {
                let config = client_config(&info.tls, proof)?;
                prepared.push((proof, MakeRustlsConnect::new(config)));
            }
        }
        Ok(Encryption(prepared))
    }

    /// The connector for hosts that have to prove this much; the driver wants one, also where it encrypts nothing.
    ///
    /// # Errors
    /// If no host of the connection string has to prove this much.
    pub(super) fn connector(&self, proof: Proof) -> Result<&MakeRustlsConnect> {
        let found = self.0.iter().find(|(known, _)| *known == proof);
        let nobody = || Error::new(Code::Internal, "no host has to prove this much");
        found.map(|(_, connector)| connector).ok_or_else(nobody)
    }
}

fn provider() -> Arc<CryptoProvider> {
    // named explicitly: with two providers in one build rustls could not choose
    Arc::new(ring::default_provider())
}

fn client_config(settings: &TlsSettings, proof: Proof) -> Result<ClientConfig> {
    let provider = provider();
    let verifier = match (proof, settings.roots()) {
        (Proof::Nothing, _) | (_, None) => verify::anybody(&provider),
        (_, Some(roots)) => {
            let known = files::roots(roots)?;
            let revoked = settings.revoked.as_ref().map(files::revoked).transpose()?;
            verify::signed_by(known, revoked.unwrap_or_default(), proof, &provider)?
        }
    };
    let builder = builder(settings, verifier)?;
    let Some(client) = files::client(settings)? else {
        return Ok(with_names(builder.with_no_client_auth(), settings));
    };
    let config = builder.with_client_auth_cert(client.chain, client.key);
    config.map(|config| with_names(config, settings)).map_err(|e| {
        Error::new(Code::Usage, format!("{}: the key does not fit it", client.place))
            .because(e)
            .hint("name the certificate and its own key: sslcert=FILE sslkey=FILE")
    })
}

/// The names that are sent in the clear: that of the host, and that of the protocol if TLS begins at once.
fn with_names(mut config: ClientConfig, settings: &TlsSettings) -> ClientConfig {
    config.enable_sni = settings.sends_name;
    if settings.direct {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    config
}

fn builder(
    settings: &TlsSettings,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let versions: Vec<&'static SupportedProtocolVersion> =
        [(TlsVersion::V12, &rustls::version::TLS12), (TlsVersion::V13, &rustls::version::TLS13)]
            .into_iter()
            .filter(|(version, _)| (settings.oldest..=settings.newest).contains(version))
            .map(|(_, spoken)| spoken)
            .collect();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions)
        .map_err(|e| Error::new(Code::Usage, "no version of TLS is left to speak").because(e))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}
