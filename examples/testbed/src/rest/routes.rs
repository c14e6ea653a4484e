//! PURE. Which request goes where, and what proves the caller.

use super::request::{Answer, Request};
use super::{State, account, certificates, integration};

/// What a route wants of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Nothing,
    /// A token that counts.
    Token,
    /// Token and signature.
    Signature,
}

struct Route {
    method: Option<&'static str>,
    path: &'static str,
    proof: Proof,
    answer: fn(&mut State, &Request) -> Answer,
}

const ROUTES: &[Route] = &[
    route("/apim-token-service/v2.0/token/get", Proof::Nothing, account::get),
    route("/apim-token-service/v2.0/token/refresh", Proof::Nothing, account::refresh),
    Route { method: None, ..route("/connect-service/v2.0/certificates", Proof::Signature, certificates::answer) },
    route("/connect-service/v2.1/integration", Proof::Token, integration::answer),
];

const fn route(path: &'static str, proof: Proof, answer: fn(&mut State, &Request) -> Answer) -> Route {
    Route { method: Some("POST"), path, proof, answer }
}

pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let fits =
        |route: &&Route| route.path == request.path && route.method.is_none_or(|method| method == request.method);
    let Some(route) = ROUTES.iter().find(fits) else {
        return Answer { status: 404, body: serde_json::json!({"code": 404, "msg": "no such interface"}) };
    };
    if let Some(refused) = account::prove(state, request, route.proof) {
        return refused;
    }
    if state.knobs.unauthorised && route.proof != Proof::Nothing {
        return Answer::refused(403, "the service account is not authorized for this OU");
    }
    (route.answer)(state, request)
}
