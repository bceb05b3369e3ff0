//! Answers of the API: pages, ETags, limits, problems.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

/// An answer before it has fields.
#[derive(Debug)]
pub(super) enum Reply {
    Json(u16, Value),
    /// A list, of which a page goes out.
    List(Vec<Value>),
    /// A list in an object, under a name beside its length.
    Named(&'static str, Vec<Value>),
    Text(String),
    Moved(u16, String),
}

/// A problem in the forge's words.
pub(super) fn problem(status: u16, message: &str) -> Reply {
    Reply::Json(status, json!({ "message": message, "documentation_url": "https://docs.github.com/rest" }))
}

/// 422 about a field of a resource.
pub(super) fn invalid(resource: &str, field: &str, message: Option<&str>) -> Reply {
    let error = match message {
        Some(message) => json!({ "resource": resource, "code": "custom", "message": message }),
        None => json!({ "resource": resource, "field": field, "code": "invalid" }),
    };
    let body = json!({ "message": "Validation Failed", "errors": [error], "documentation_url": "https://docs.github.com/rest" });
    Reply::Json(422, body)
}

/// Parameters of a query, decoded.
pub(super) fn query(text: Option<&str>) -> Vec<(String, String)> {
    let base = reqwest::Url::parse(&format!("http://h/?{}", text.unwrap_or_default()));
    base.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

pub(super) fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
}

impl Reply {
    /// The response to a request at this address.
    pub(super) fn response(self, address: &str, query: &[(String, String)], asked: &HeaderMap) -> Response {
        let number = |name: &str, usual: usize| {
            parameter(query, name).and_then(|text| text.parse().ok()).unwrap_or(usual)
        };
        let (per_page, page) = (number("per_page", 30).clamp(1, 100), number("page", 1).max(1));
        let paged = |all: &[Value]| {
            let some: Vec<Value> = all.iter().skip((page - 1) * per_page).take(per_page).cloned().collect();
            (some, all.len() > page * per_page)
        };
        let (status, body, more) = match self {
            Self::Json(status, body) => (status, body.to_string(), false),
            Self::List(all) => {
                let (some, more) = paged(&all);
                (200, Value::from(some).to_string(), more)
            }
            Self::Named(name, all) => {
                let (some, more) = paged(&all);
                (200, json!({ "total_count": all.len(), name: some }).to_string(), more)
            }
            Self::Text(text) => {
                return ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response();
            }
            Self::Moved(status, place) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
                return (status, [(header::LOCATION, place)]).into_response();
            }
        };
        let mut hash = DefaultHasher::new();
        (status, &body, more).hash(&mut hash);
        let etag = format!("W/\"{:016x}\"", hash.finish());
        let same = asked.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == etag.as_bytes());
        let mut response = Response::builder()
            .header("x-ratelimit-limit", "5000")
            .header("x-ratelimit-remaining", "4999")
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        if more {
            let rest = query.iter().filter(|(name, _)| name != "page");
            let mut next = reqwest::Url::parse(address).ok();
            if let Some(next) = &mut next {
                next.query_pairs_mut()
                    .clear()
                    .extend_pairs(rest)
                    .append_pair("page", &(page + 1).to_string());
                response = response.header(header::LINK, format!("<{next}>; rel=\"next\""));
            }
        }
        if status == 200 && same {
            return response.status(304).body(Body::empty()).unwrap_or_default();
        }
        if status == 200 {
            response = response.header(header::ETAG, etag);
        }
        response.status(status).body(Body::from(body)).unwrap_or_default()
    }
}
