//! A small authority for tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};
use std::time::Duration;

pub(crate) struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

pub(crate) fn client() -> ExtendedKeyUsagePurpose {
    ExtendedKeyUsagePurpose::ClientAuth
}

pub(crate) fn server() -> ExtendedKeyUsagePurpose {
    ExtendedKeyUsagePurpose::ServerAuth
}

impl TestCa {
    pub fn new(name: &str) -> TestCa {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        TestCa { issuer: Issuer::new(params, key), pem }
    }

    pub fn issue(&self, key: &KeyPair, from: i64, to: i64, usage: ExtendedKeyUsagePurpose) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        fit(&mut params, from, to, usage);
        params.signed_by(key, &self.issuer).unwrap().pem()
    }

    /// For the key of a request, which must prove that it has it.
    pub fn sign(&self, request: &str, from: i64, to: i64) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(request).unwrap();
        fit(&mut request.params, from, to, client());
        request.signed_by(&self.issuer).unwrap().pem()
    }
}

fn fit(params: &mut CertificateParams, from: i64, to: i64, usage: ExtendedKeyUsagePurpose) {
    let at = |ms: i64| date_time_ymd(1970, 1, 1) + Duration::from_millis(ms as u64);
    (params.not_before, params.not_after) = (at(from), at(to));
    params.extended_key_usages = vec![usage];
}
