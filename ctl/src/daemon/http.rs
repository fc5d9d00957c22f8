//! The paths of the API: one line each from path to operation.

mod rules;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, MatchedPath, Path, Query, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::OpenApi;

use super::core::{Attachment, internal};
use super::listen::Caller;
use super::service::Service;
use crate::api::{
    self, ApiError, AttachRequest, CreateNetwork, ErrorCode, Name, PortSpec, PublishRequest,
    ShutdownRequest, StartRequest,
};

/// Octets of a request body.
const BODY_SPACE: usize = 64 << 10;

/// How long a client may take to send a request body.
const BODY_TIME: Duration = Duration::from_secs(10);

type Shared = State<Arc<Service>>;
type Answer<T> = Result<Json<T>, Failure>;

/// Everything that can be asked for.
pub(super) fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/openapi.json", get(openapi))
        .route("/v1/status", get(status))
        .route("/v1/shutdown", post(shutdown))
        .route("/v1/networks", get(list_networks).post(create_network))
        .route(
            "/v1/networks/{network}",
            get(inspect_network).delete(remove_network),
        )
        .route(
            "/v1/networks/{network}/endpoints",
            get(list_endpoints).post(attach),
        )
        .route(
            "/v1/networks/{network}/endpoints/{sandbox}",
            delete(detach_from),
        )
        .route(
            "/v1/networks/{network}/endpoints/{sandbox}/start",
            post(start),
        )
        .route("/v1/endpoints", get(list_all_endpoints))
        .route("/v1/sandboxes/{sandbox}", delete(detach))
        .route("/v1/sandboxes/{sandbox}/ports", post(publish))
        .route("/v1/sandboxes/{sandbox}/ports/withdraw", post(unpublish))
        .route("/v1/ports", get(list_ports))
        .route(
            "/v1/rules",
            get(rules::list_rules)
                .put(rules::replace_rules)
                .post(rules::add_rule),
        )
        .route("/v1/rules/log", get(rules::rule_log))
        .route("/v1/rules/{rule}", delete(rules::delete_rule))
        .route(
            "/v1/networks/{network}/rules",
            get(rules::list_network_rules)
                .put(rules::replace_network_rules)
                .post(rules::add_network_rule),
        )
        .route(
            "/v1/networks/{network}/rules/{rule}",
            delete(rules::delete_network_rule),
        )
        .route("/v1/flows", get(flows))
        .route("/v1/fdb", get(fdb))
        .route("/v1/neighbours", get(neighbours))
        .route("/v1/routes", get(show_routes))
        .route("/v1/stats", get(stats))
        .route("/v1/drops", get(drops))
        .route_layer(axum::middleware::from_fn(restrict))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_path)
        .with_state(service)
        .layer(axum::middleware::map_response(tell_version))
}

/// What members of the group may ask for at all; the rest is about other people's sandboxes. What a
/// request that gets past this may do, it sees for itself.
async fn restrict(
    Extension(caller): Extension<Caller>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    match (request.method(), path.as_str()) {
        (
            &Method::GET,
            "/v1/openapi.json" | "/v1/status" | "/v1/networks" | "/v1/networks/{network}",
        )
        | (&Method::POST, "/v1/networks/{network}/endpoints") => {}
        _ => caller.may_do_all()?,
    }
    Ok(next.run(request).await)
}

/// Every answer says whose it is, so that a command of another version notices.
async fn tell_version(mut response: Response) -> Response {
    let version = HeaderValue::from_static(api::VERSION);
    response.headers_mut().insert(api::VERSION_HEADER, version);
    response
}

/// An error as an answer.
#[derive(Debug)]
pub(super) struct Failure(ApiError);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code().status());
        (
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            Json(self.0),
        )
            .into_response()
    }
}

/// A request body of type `T`, of so many octets at most; anything else is refused in our own words.
struct Body<T, const SPACE: usize = BODY_SPACE>(T);

impl<T: DeserializeOwned, S: Send + Sync, const SPACE: usize> FromRequest<S> for Body<T, SPACE> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Body<T, SPACE>, Failure> {
        let body = to_bytes(request.into_body(), SPACE);
        let body = tokio::time::timeout(BODY_TIME, body).await.map_err(|_| {
            let message = "the request body did not arrive";
            ApiError::new(ErrorCode::Timeout, message)
        })?;
        let bytes: Bytes = body.map_err(|_| {
            let message = format!("the request body is longer than {SPACE} octets");
            ApiError::new(ErrorCode::TooLarge, message)
        })?;
        // An empty body stands for a request in which everything is optional.
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Body).map_err(|error| {
            ApiError::new(
                ErrorCode::InvalidRequest,
                format!("the request body: {error}"),
            )
            .hint("the form of every request is at /v1/openapi.json")
            .into()
        })
    }
}

/// A name in a path.
fn name(text: &str) -> Result<Name, ApiError> {
    text.parse::<Name>()
        .map_err(|error| ApiError::new(ErrorCode::InvalidName, error.to_string()))
}

/// Finishes an operation even if the client goes away in the middle: it must not stay half done.
async fn finish<T: Send + 'static>(
    operation: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::spawn(operation).await;
    done.map_err(|error| internal(&error.to_string()))?
        .map_err(Failure)
}

/// What a request without a result is answered with.
#[derive(Serialize, utoipa::ToSchema)]
struct Done {}

async fn unknown_path(request: Request) -> Failure {
    let message = format!("there is no {} {}", request.method(), request.uri().path());
    ApiError::new(ErrorCode::UnknownPath, message)
        .hint("what there is, is described at /v1/openapi.json")
        .into()
}

/// The description of this API.
async fn openapi() -> Response {
    match Description::openapi().to_json() {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => Failure(internal(&error.to_string())).into_response(),
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "heddle",
        description = "A userspace virtual switch and NAT router."
    ),
    paths(
        status,
        shutdown,
        list_networks,
        create_network,
        inspect_network,
        remove_network,
        list_endpoints,
        list_all_endpoints,
        attach,
        start,
        detach_from,
        detach,
        publish,
        unpublish,
        list_ports,
        rules::list_rules,
        rules::replace_rules,
        rules::add_rule,
        rules::delete_rule,
        rules::rule_log,
        rules::list_network_rules,
        rules::replace_network_rules,
        rules::add_network_rule,
        rules::delete_network_rule,
        flows,
        fdb,
        neighbours,
        show_routes,
        stats,
        drops,
    ),
    components(schemas(ApiError))
)]
struct Description;

/// How the daemon is.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = api::Status)))]
async fn status(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
) -> Answer<api::Status> {
    let mut status = service.status().await;
    if caller.may_do_all().is_err() {
        status.endpoints.clear();
    }
    Ok(Json(status))
}

/// Stops the daemon.
#[utoipa::path(post, path = "/v1/shutdown", request_body = ShutdownRequest,
    responses((status = 200, body = Done)))]
async fn shutdown(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    Body(request): Body<ShutdownRequest>,
) -> Answer<Done> {
    caller.may_do_all()?;
    finish(async move { service.shut_down(request.purge).await }).await?;
    Ok(Json(Done {}))
}

/// All networks.
#[utoipa::path(get, path = "/v1/networks", responses((status = 200, body = [api::Network])))]
async fn list_networks(State(service): Shared) -> Answer<Vec<api::Network>> {
    Ok(Json(service.core.lock().await.show_networks()))
}

/// Makes a network.
#[utoipa::path(post, path = "/v1/networks", request_body = CreateNetwork,
    responses((status = 200, body = api::Network), (status = "4XX", body = ApiError)))]
async fn create_network(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    Body(request): Body<CreateNetwork>,
) -> Answer<api::Network> {
    caller.may_do_all()?;
    finish(async move { service.create_network(request, &caller).await })
        .await
        .map(Json)
}

/// One network.
#[utoipa::path(get, path = "/v1/networks/{network}", params(("network" = String, Path)),
    responses((status = 200, body = api::Network), (status = 404, body = ApiError)))]
async fn inspect_network(
    State(service): Shared,
    Path(network): Path<String>,
) -> Answer<api::Network> {
    Ok(Json(
        service.core.lock().await.show_network(&name(&network)?)?,
    ))
}

/// Removes a network that nobody uses.
#[utoipa::path(delete, path = "/v1/networks/{network}", params(("network" = String, Path)),
    responses((status = 200, body = Done), (status = "4XX", body = ApiError)))]
async fn remove_network(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    Path(network): Path<String>,
) -> Answer<Done> {
    caller.may_do_all()?;
    let network = name(&network)?;
    finish(async move { service.remove_network(&network).await }).await?;
    Ok(Json(Done {}))
}

/// The endpoints of a network.
#[utoipa::path(get, path = "/v1/networks/{network}/endpoints", params(("network" = String, Path)),
    responses((status = 200, body = [api::Endpoint]), (status = 404, body = ApiError)))]
async fn list_endpoints(
    State(service): Shared,
    Path(network): Path<String>,
) -> Answer<Vec<api::Endpoint>> {
    Ok(Json(
        service
            .core
            .lock()
            .await
            .show_endpoints(Some(&name(&network)?))?,
    ))
}

/// All endpoints.
#[utoipa::path(get, path = "/v1/endpoints", responses((status = 200, body = [api::Endpoint])))]
async fn list_all_endpoints(State(service): Shared) -> Answer<Vec<api::Endpoint>> {
    Ok(Json(service.core.lock().await.show_endpoints(None)?))
}

/// Attaches a sandbox to a network.
#[utoipa::path(post, path = "/v1/networks/{network}/endpoints", params(("network" = String, Path)),
    request_body = AttachRequest,
    responses((status = 200, body = api::Endpoint), (status = "4XX", body = ApiError)))]
async fn attach(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    Path(network): Path<String>,
    Body(request): Body<AttachRequest>,
) -> Answer<api::Endpoint> {
    let network = name(&network)?;
    finish(async move { service.attach(&network, request, &caller).await })
        .await
        .map(Json)
}

/// Starts an endpoint whose interface the caller has made.
#[utoipa::path(post, path = "/v1/networks/{network}/endpoints/{sandbox}/start",
    params(("network" = String, Path), ("sandbox" = String, Path)), request_body = StartRequest,
    responses((status = 200, body = api::Endpoint), (status = "4XX", body = ApiError)))]
async fn start(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    Path((network, sandbox)): Path<(String, String)>,
    Body(request): Body<StartRequest>,
) -> Answer<api::Endpoint> {
    caller.may_do_all()?;
    let (network, sandbox) = (name(&network)?, name(&sandbox)?);
    let started = async move { service.start(&network, &sandbox, &request, &caller).await };
    finish(started).await.map(Json)
}

/// Takes a sandbox out of one network.
#[utoipa::path(delete, path = "/v1/networks/{network}/endpoints/{sandbox}",
    params(("network" = String, Path), ("sandbox" = String, Path), api::WhichAttachment),
    responses((status = 200, body = Done), (status = 404, body = ApiError)))]
async fn detach_from(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    Path((network, sandbox)): Path<(String, String)>,
    Query(which): Query<api::WhichAttachment>,
) -> Answer<Done> {
    caller.may_do_all()?;
    let (network, sandbox) = (name(&network)?, name(&sandbox)?);
    let attachment = which.attachment.map(Attachment);
    finish(async move { service.detach(&sandbox, Some(&network), attachment).await }).await?;
    Ok(Json(Done {}))
}

/// Takes a sandbox out of all networks.
#[utoipa::path(delete, path = "/v1/sandboxes/{sandbox}", params(("sandbox" = String, Path)),
    responses((status = 200, body = Done), (status = 404, body = ApiError)))]
async fn detach(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    Path(sandbox): Path<String>,
) -> Answer<Done> {
    caller.may_do_all()?;
    let sandbox = name(&sandbox)?;
    finish(async move { service.detach(&sandbox, None, None).await }).await?;
    Ok(Json(Done {}))
}

/// Publishes a port of a sandbox.
#[utoipa::path(post, path = "/v1/sandboxes/{sandbox}/ports", params(("sandbox" = String, Path)),
    request_body = PublishRequest,
    responses((status = 200, body = api::PublishedPort), (status = "4XX", body = ApiError)))]
async fn publish(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    Path(sandbox): Path<String>,
    Body(request): Body<PublishRequest>,
) -> Answer<api::PublishedPort> {
    caller.may_do_all()?;
    let sandbox = name(&sandbox)?;
    let published = async move {
        service
            .publish_port(&sandbox, request.network.as_ref(), &request.spec)
            .await
    };
    finish(published).await.map(Json)
}

/// Withdraws a published port.
#[utoipa::path(post, path = "/v1/sandboxes/{sandbox}/ports/withdraw",
    params(("sandbox" = String, Path)), request_body = PublishRequest,
    responses((status = 200, body = Done), (status = "4XX", body = ApiError)))]
async fn unpublish(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    Path(sandbox): Path<String>,
    Body(request): Body<PublishRequest>,
) -> Answer<Done> {
    caller.may_do_all()?;
    let sandbox = name(&sandbox)?;
    let withdrawn = async move {
        let spec: &PortSpec = &request.spec;
        service
            .unpublish_port(&sandbox, request.network.as_ref(), spec)
            .await
    };
    finish(withdrawn).await?;
    Ok(Json(Done {}))
}

/// All published ports.
#[utoipa::path(get, path = "/v1/ports", responses((status = 200, body = [api::PublishedPort])))]
async fn list_ports(State(service): Shared) -> Answer<Vec<api::PublishedPort>> {
    Ok(Json(service.core.lock().await.ports()))
}

/// The flow table.
#[utoipa::path(get, path = "/v1/flows", responses((status = 200, body = [api::Flow])))]
async fn flows(State(service): Shared) -> Answer<Vec<api::Flow>> {
    Ok(Json(service.core.lock().await.show_flows()))
}

/// The forwarding database.
#[utoipa::path(get, path = "/v1/fdb", responses((status = 200, body = [api::Station])))]
async fn fdb(State(service): Shared) -> Answer<Vec<api::Station>> {
    Ok(Json(service.core.lock().await.show_stations()))
}

/// Neighbours.
#[utoipa::path(get, path = "/v1/neighbours", responses((status = 200, body = [api::Neighbour])))]
async fn neighbours(State(service): Shared) -> Answer<Vec<api::Neighbour>> {
    Ok(Json(service.core.lock().await.show_neighbours()))
}

/// Where packets of each network go.
#[utoipa::path(get, path = "/v1/routes", responses((status = 200, body = [api::Route])))]
async fn show_routes(State(service): Shared) -> Answer<Vec<api::Route>> {
    Ok(Json(service.core.lock().await.show_routes()))
}

/// What every port has sent and received.
#[utoipa::path(get, path = "/v1/stats", responses((status = 200, body = api::Statistics)))]
async fn stats(State(service): Shared) -> Answer<api::Statistics> {
    Ok(Json(service.core.lock().await.show_statistics()))
}

/// Frames that ended without being sent, by port and reason.
#[utoipa::path(get, path = "/v1/drops", responses((status = 200, body = [api::DropCount])))]
async fn drops(State(service): Shared) -> Answer<Vec<api::DropCount>> {
    Ok(Json(service.core.lock().await.show_drops()))
}
