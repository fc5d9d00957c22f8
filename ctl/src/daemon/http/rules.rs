//! Paths of filter rules: those of everybody, and those of a network.

use axum::extract::{Path, Query, State};
use axum::http::Uri;
use axum::{Extension, Json};

use super::{Answer, Body, Done, Shared, finish, name};
use crate::api::{self, ApiError, ErrorCode, Name, Rule, RulePosition};
use crate::daemon::core::RuleChange;
use crate::daemon::listen::Caller;
use crate::daemon::service::Service;

/// Octets of a list of rules: a chain at its limits fits.
const RULES_SPACE: usize = 1 << 20;

/// A list of rules as the body of a request.
type Rules = Body<Vec<Rule>, RULES_SPACE>;

async fn list(service: &Service, network: Option<&Name>) -> Answer<Vec<Rule>> {
    Ok(Json(service.core.lock().await.show_rules(network)?))
}

async fn change(
    State(service): Shared,
    caller: Caller,
    network: Option<Name>,
    change: RuleChange,
) -> Answer<Vec<Rule>> {
    caller.may_do_all()?;
    let changed = async move { service.change_rules(network.as_ref(), change).await };
    finish(changed).await.map(Json)
}

async fn add(
    service: Shared,
    caller: Caller,
    network: Option<Name>,
    rule: Rule,
    place: RulePosition,
) -> Answer<Rule> {
    let added = RuleChange::Add(Box::new(rule), place.position);
    let Json(added) = change(service, caller, network, added).await?;
    let added = added.into_iter().next();
    Ok(Json(added.ok_or_else(|| {
        super::internal("an added rule vanished")
    })?))
}

/// Where the query of a request says that a rule goes.
fn place(uri: &Uri) -> Result<RulePosition, ApiError> {
    Query::try_from_uri(uri)
        .map(|Query(place)| place)
        .map_err(|error| {
            let message = format!("the query of the request: {}", error.body_text());
            ApiError::new(ErrorCode::InvalidRequest, message).hint("write ?position=N")
        })
}

async fn remove(
    service: Shared,
    caller: Caller,
    network: Option<Name>,
    rule: &str,
) -> Answer<Done> {
    let number = rule.parse().map_err(|_| {
        let message = format!("{rule:?} is not the number of a rule");
        ApiError::new(ErrorCode::InvalidRequest, message)
    })?;
    let _: Json<Vec<Rule>> = change(service, caller, network, RuleChange::Delete(number)).await?;
    Ok(Json(Done {}))
}

/// The rules that packets of every network are asked about, in order.
#[utoipa::path(get, path = "/v1/rules", responses((status = 200, body = [Rule])))]
pub(super) async fn list_rules(State(service): Shared) -> Answer<Vec<Rule>> {
    list(&service, None).await
}

/// Replaces all of them at once; a rule that stays keeps its number and what it has counted.
#[utoipa::path(put, path = "/v1/rules", request_body = [Rule],
    responses((status = 200, body = [Rule]), (status = "4XX", body = ApiError)))]
pub(super) async fn replace_rules(
    service: Shared,
    Extension(caller): Extension<Caller>,
    Body(rules): Rules,
) -> Answer<Vec<Rule>> {
    change(service, caller, None, RuleChange::Replace(rules)).await
}

/// Adds a rule behind all others, or at a position.
#[utoipa::path(post, path = "/v1/rules", params(RulePosition), request_body = Rule,
    responses((status = 200, body = Rule), (status = "4XX", body = ApiError)))]
pub(super) async fn add_rule(
    service: Shared,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    Body(rule): Body<Rule>,
) -> Answer<Rule> {
    add(service, caller, None, rule, place(&uri)?).await
}

/// Deletes a rule.
#[utoipa::path(delete, path = "/v1/rules/{rule}", params(("rule" = u32, Path)),
    responses((status = 200, body = Done), (status = 404, body = ApiError)))]
pub(super) async fn delete_rule(
    service: Shared,
    Extension(caller): Extension<Caller>,
    Path(rule): Path<String>,
) -> Answer<Done> {
    remove(service, caller, None, &rule).await
}

/// The last packets that rules have logged.
#[utoipa::path(get, path = "/v1/rules/log", responses((status = 200, body = api::RuleLog)))]
pub(super) async fn rule_log(State(service): Shared) -> Answer<api::RuleLog> {
    Ok(Json(service.core.lock().await.show_rule_log()))
}

/// The rules that packets from and to a network are asked about, behind everybody's.
#[utoipa::path(get, path = "/v1/networks/{network}/rules", params(("network" = String, Path)),
    responses((status = 200, body = [Rule]), (status = 404, body = ApiError)))]
pub(super) async fn list_network_rules(
    State(service): Shared,
    Path(network): Path<String>,
) -> Answer<Vec<Rule>> {
    list(&service, Some(&name(&network)?)).await
}

/// Replaces all of them at once; a rule that stays keeps its number and what it has counted.
#[utoipa::path(put, path = "/v1/networks/{network}/rules", params(("network" = String, Path)),
    request_body = [Rule],
    responses((status = 200, body = [Rule]), (status = "4XX", body = ApiError)))]
pub(super) async fn replace_network_rules(
    service: Shared,
    Extension(caller): Extension<Caller>,
    Path(network): Path<String>,
    Body(rules): Rules,
) -> Answer<Vec<Rule>> {
    let network = Some(name(&network)?);
    change(service, caller, network, RuleChange::Replace(rules)).await
}

/// Adds a rule behind all others, or at a position.
#[utoipa::path(post, path = "/v1/networks/{network}/rules",
    params(("network" = String, Path), RulePosition), request_body = Rule,
    responses((status = 200, body = Rule), (status = "4XX", body = ApiError)))]
pub(super) async fn add_network_rule(
    service: Shared,
    Extension(caller): Extension<Caller>,
    Path(network): Path<String>,
    uri: Uri,
    Body(rule): Body<Rule>,
) -> Answer<Rule> {
    add(service, caller, Some(name(&network)?), rule, place(&uri)?).await
}

/// Deletes a rule.
#[utoipa::path(delete, path = "/v1/networks/{network}/rules/{rule}",
    params(("network" = String, Path), ("rule" = u32, Path)),
    responses((status = 200, body = Done), (status = 404, body = ApiError)))]
pub(super) async fn delete_network_rule(
    service: Shared,
    Extension(caller): Extension<Caller>,
    Path((network, rule)): Path<(String, String)>,
) -> Answer<Done> {
    remove(service, caller, Some(name(&network)?), &rule).await
}
