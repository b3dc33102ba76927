//! What pages load beside themselves: built into the program, known by its digest, so that browsers
//! ask once for each version.

use super::state::Admin;
use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH,
};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::sync::{Arc, LazyLock};

pub(super) const STYLE: &str = "admin.css";
pub(super) const SCRIPT: &str = "admin.js";

struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
    digest: String,
}

static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        asset(STYLE, "text/css; charset=utf-8", include_str!("assets/admin.css")),
        asset(SCRIPT, "text/javascript; charset=utf-8", include_str!("assets/admin.js")),
        asset("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    ]
});

fn asset(name: &'static str, kind: &'static str, text: &'static str) -> Asset {
    Asset { name, kind, text, digest: digest(text.as_bytes()) }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Where a page finds one of them, as it is now.
pub(super) fn address(admin: &Admin, name: &str) -> String {
    let known = ASSETS.iter().find(|asset| asset.name == name);
    let version = known.map_or("", |asset| asset.digest.as_str());
    admin.path(&format!("/static/{name}?v={version}"))
}

/// `/static/<name>`.
pub(super) async fn serve(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let missing = || (StatusCode::NOT_FOUND, "NOT_FOUND").into_response();
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else { return missing() };
    let directory = admin.options.borrow().dev_static_dir.clone();
    let (bytes, digest) = if directory.is_empty() {
        (asset.text.as_bytes().to_vec(), asset.digest.clone())
    } else {
        // For work on them: read each time, by one person, so that it may block. Only known names.
        match std::fs::read(format!("{directory}/{name}")) {
            Ok(bytes) => (bytes.clone(), digest(&bytes)),
            Err(_) => return missing(),
        }
    };
    let tag = HeaderValue::try_from(format!("W/\"{digest}\"")).expect("hexadecimal digits");
    let is_version = uri.query() == Some(&format!("v={digest}"));
    let cache = if is_version { "public, max-age=31536000, immutable" } else { "no-cache" };
    let cache = [(CACHE_CONTROL, HeaderValue::from_static(cache)), (ETAG, tag.clone())];
    if headers.get_all(IF_NONE_MATCH).iter().any(|known| *known == tag) {
        return (StatusCode::NOT_MODIFIED, cache).into_response();
    }
    let kind = [(CONTENT_TYPE, HeaderValue::from_static(asset.kind))];
    (cache, kind, bytes).into_response()
}
