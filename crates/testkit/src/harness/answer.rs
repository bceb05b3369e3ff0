//! An HTTP answer, whole.

use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::must::Must as _;

/// Status, headers and body of one answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Sends a request and takes the whole answer in.
    ///
    /// # Panics
    /// When there is none.
    pub async fn to(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.must("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.must("the answer's body").to_vec();
        Self { status, headers, body }
    }

    /// A header's value, empty without one.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON of this type.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).must(&self.text())
    }

    /// Fails the test unless the status is this.
    ///
    /// # Panics
    /// With the body.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "status of: {}", self.text());
        self
    }

    /// Fails the test unless this is a problem with this status and code that says what and what next;
    /// gives its title and detail.
    ///
    /// # Panics
    /// With the body.
    #[track_caller]
    pub fn is_problem(self, status: u16, code: &str) -> String {
        let this = self.is(status);
        assert_eq!(this.header("content-type"), "application/problem+json", "{}", this.text());
        let problem: Value = this.json();
        let words = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
        assert_eq!(words("code"), code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(!words("title").is_empty() && !words("next").is_empty(), "{problem}");
        format!("{} {}", words("title"), words("detail"))
    }
}
