//! Graphite: a rate out of it, and its pictures for browsers that cannot reach it.

use super::refusal::{BROKEN, Refusal};
use super::state::Admin;
use crate::client::http::escape;
use crate::http::query::Query;
use crate::http::response::{Fault, Reply};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::{Method, Uri};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const INVALID_ARG_METRIC: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_ARG_METRIC");
const INVALID_ARG_TARGET: Fault = Fault(StatusCode::BAD_REQUEST, "INVALID_ARG_TARGET");

pub(super) async fn rate(State(admin): State<Arc<Admin>>, uri: Uri) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Rate {
        rate: String,
    }
    let query = Query::of(&uri)?;
    if query.value("metric") != Some(b"rate") {
        return Err(INVALID_ARG_METRIC.into());
    }
    let target = query.value("target").ok_or(INVALID_ARG_TARGET)?;
    let (url, interval_s) = {
        let options = admin.options.borrow();
        (options.graphite_url.clone(), options.statsd_interval.as_secs())
    };
    let from = interval_s * 2;
    let target = escape(target, "+");
    let url =
        format!("{url}/render?format=json&from=-{from}sec&target={target}&until=-{interval_s}sec");
    tracing::info!("GRAPHITE: {url}");
    let rate = datapoint(&admin, &url).await.map_err(|reason| {
        tracing::error!("graphite request failed - {reason}");
        BROKEN
    })?;
    #[expect(clippy::cast_precision_loss, reason = "an interval is far below 2^52 seconds")]
    let rate = match rate {
        rate if rate < 0.0 => "N/A".to_owned(),
        rate => format!("{:.2}", rate / interval_s.max(1) as f64),
    };
    Ok(Reply::json(&Rate { rate }))
}

/// The first value of the first series.
async fn datapoint(admin: &Admin, url: &str) -> Result<f64, String> {
    #[derive(Deserialize)]
    struct Series {
        datapoints: Vec<(Option<f64>, Option<f64>)>,
    }
    let url: Uri = url.parse().map_err(|error| format!("{error}"))?;
    let body = admin.http.insist(Method::GET, &url, &[], Bytes::new()).await?;
    let series: Vec<Series> = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let first = series.first().and_then(|series| series.datapoints.first());
    first.and_then(|point| point.0).ok_or_else(|| "no datapoint".to_owned())
}

/// `/render`: the same at Graphite, with the name and password of its URL.
pub(super) async fn render(State(admin): State<Arc<Admin>>, uri: Uri) -> Response {
    match proxied(&admin, &uri).await {
        Ok(response) => response,
        Err(reason) => {
            tracing::error!("graphite request failed - {reason}");
            StatusCode::BAD_GATEWAY.into_response()
        }
    }
}

async fn proxied(admin: &Admin, uri: &Uri) -> Result<Response, String> {
    let graphite: Uri = {
        let options = admin.options.borrow();
        options.graphite_url.parse().map_err(|error| format!("{error}"))?
    };
    let authority = graphite.authority().map_or("", |authority| authority.as_str());
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let url = format!("{}://{host}{path}", graphite.scheme_str().unwrap_or("http"));
    let url: Uri = url.parse().map_err(|error| format!("{error}"))?;
    let basic = user.and_then(|user| {
        let decoded = crate::http::query::unescape_path(user)?;
        HeaderValue::try_from(format!("Basic {}", STANDARD.encode(decoded))).ok()
    });
    let headers: Vec<_> = basic.map(|basic| (AUTHORIZATION, basic)).into_iter().collect();
    let answer = admin.http.request(Method::GET, &url, &headers, Bytes::new()).await?;
    let kind = answer.headers.get(CONTENT_TYPE).cloned();
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    Ok((answer.status, [(CONTENT_TYPE, kind)], answer.body).into_response())
}
