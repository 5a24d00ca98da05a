//! Certificates for real servers and clients: right ones, and each kind of wrong one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, SerialNumber, SigningKey, date_time_ymd,
};

/// Who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate with its key, both as PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// A root with this common name.
    pub(crate) fn new(name: &str) -> Authority {
        Authority::for_hosts(name, &[])
    }

    /// A root that is also the certificate of these hosts.
    pub(crate) fn for_hosts(name: &str, hosts: &[&str]) -> Authority {
        let mut params = named(name, hosts);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a root");
        let (der, bytes) = (certificate.der().to_vec(), key.serialize_der());
        Authority { issuer: Issuer::new(params, key), der, key: bytes }
    }

    /// The root itself, as PEM.
    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// The root as the certificate of a server.
    pub(crate) fn as_server(&self) -> Issued {
        Issued { certificate: self.pem(), key: pem("PRIVATE KEY", &self.key) }
    }

    /// A certificate with this common name for these hosts.
    pub(crate) fn issue(&self, name: &str, hosts: &[&str]) -> Issued {
        self.sign(&named(name, hosts))
    }

    /// The same, and it has expired.
    pub(crate) fn issue_expired(&self, name: &str, hosts: &[&str]) -> Issued {
        let mut params = named(name, hosts);
        params.not_after = date_time_ymd(2020, 2, 3);
        self.sign(&params)
    }

    /// The same with the version of 1988, which has no extensions, so that it is for its common name alone.
    pub(crate) fn issue_version_1(&self, name: &str) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let made = named(name, &[]).signed_by(&key, &self.issuer).expect("a certificate");
        let der = as_version_1(made.der(), self.issuer.key());
        Issued {
            certificate: pem("CERTIFICATE", &der),
            key: pem("PRIVATE KEY", &key.serialize_der()),
        }
    }

    /// The list that says that this certificate's number, if any, is not valid any more.
    pub(crate) fn revoke(&self, number: Option<u64>) -> String {
        let revoked = number.map(|number| RevokedCertParams {
            serial_number: SerialNumber::from(number),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2124, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.into_iter().collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        pem("X509 CRL", params.signed_by(&self.issuer).expect("a list").der())
    }

    fn sign(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued {
            certificate: pem("CERTIFICATE", made.der()),
            key: pem("PRIVATE KEY", &key.serialize_der()),
        }
    }
}

/// The number of every certificate here but those of authorities: their lists name it.
pub(crate) const NUMBER: u64 = 4711;

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names of hosts");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(NUMBER));
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2000, 1, 1);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A certificate without its version and its extensions, signed anew.
fn as_version_1(der: &[u8], signer: &KeyPair) -> Vec<u8> {
    let parts = elements(content(der));
    let (body, algorithm) = (parts[0], parts[1]);
    let kept =
        elements(content(body)).into_iter().filter(|part| part[0] != 0xa0 && part[0] != 0xa3);
    let body = element(0x30, &kept.collect::<Vec<_>>().concat());
    let signature = signer.sign(&body).expect("a signature");
    let signature = element(0x03, &[&[0], signature.as_slice()].concat());
    element(0x30, &[&body, algorithm, &signature].concat())
}

/// The length of an element's head and of its content (DER, X.690).
fn lengths(bytes: &[u8]) -> (usize, usize) {
    match bytes[1] {
        short if short < 0x80 => (2, short.into()),
        long => {
            let count = usize::from(long & 0x7f);
            let digits = &bytes[2..2 + count];
            (2 + count, digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)))
        }
    }
}

fn content(bytes: &[u8]) -> &[u8] {
    let (head, length) = lengths(bytes);
    &bytes[head..head + length]
}

fn elements(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (head, length) = lengths(bytes);
        let (one, rest) = bytes.split_at(head + length);
        found.push(one);
        bytes = rest;
    }
    found
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match length {
        0..0x80 => vec![tag, u8::try_from(length).expect("short")],
        _ => {
            let bytes = length.to_be_bytes();
            let digits = &bytes[bytes.iter().position(|b| *b != 0).expect("a length")..];
            let count = u8::try_from(digits.len()).expect("few digits");
            [&[tag, 0x80 | count], digits].concat()
        }
    };
    [head.as_slice(), content].concat()
}
