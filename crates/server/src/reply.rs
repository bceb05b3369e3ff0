//! Answers: problems for everything that goes wrong, and bodies that are read with a reason when
//! they cannot be.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use forge::ForgeError;
use git_proxy::{GitError, RemoteError};
use protocol::problem::Problem;
use serde::de::DeserializeOwned;
use session::{
    AskingError, CredentialError, EnvironmentError, ForgesError, PullRequestError, SecretError, SessionError,
};
use store::StoreError;

/// An error answer.
#[derive(Debug)]
pub(crate) struct Reply(Box<Problem>);

impl Reply {
    pub(crate) fn new(status: u16, code: &str, title: impl Into<String>, next: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(status, code, title, next)))
    }

    /// Adds to what and why.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = detail.into();
        self
    }

    fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a request failed");
        Self::new(500, "internal", "patchyard failed", "look into the server's log; then try again")
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

impl From<StoreError> for Reply {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::NoSession(_) => Self::new(
                404,
                "session_not_found",
                text,
                "see `patchyard sessions list` for those that there are",
            ),
            StoreError::NoEnvironment(_) => Self::new(
                404,
                "environment_not_found",
                text,
                "see `patchyard environments list` for those that there are",
            ),
            StoreError::NameTaken(_) => Self::new(409, "name_taken", text, "choose another name"),
            StoreError::Stale { .. } => {
                Self::new(409, "environment_changed", text, "read it again, and edit what is there now")
            }
            StoreError::ArchivesDefault => {
                Self::new(409, "default_environment", text, "make another one the default first")
            }
            StoreError::Archived => Self::new(409, "environment_archived", text, "bring it back first"),
            StoreError::NoBlob(_) => Self::new(404, "blob_not_found", text, "reload the session"),
            StoreError::KeyReused => {
                Self::new(409, "idempotency_key_reused", text, "send it again with a new key")
            }
            StoreError::QueueFull(_) => {
                Self::new(429, "queue_full", text, "stop the turn or wait for its end")
            }
            other => Self::internal(&other),
        }
    }
}

impl From<SessionError> for Reply {
    fn from(error: SessionError) -> Self {
        let text = error.to_string();
        match error {
            SessionError::EmptyPrompt => Self::new(400, "empty_prompt", text, "say what should be done"),
            SessionError::PromptTooLong { .. } => Self::new(
                413,
                "prompt_too_long",
                text,
                "shorten it, or put the material into a file of the repository",
            ),
            SessionError::NoAgent { .. } => {
                Self::new(400, "agent_not_found", text, "leave the agent out, or name one of these")
            }
            SessionError::NoModel => {
                Self::new(409, "no_model", text, "set ANTHROPIC_API_KEY for the server and start it again")
            }
            SessionError::NoBranchNamed => Self::new(400, "no_branch", text, "name one of the repository's"),
            SessionError::ProtectedBranch { .. } => {
                Self::new(409, "protected_branch", text, "begin a session from it, and open a pull request")
            }
            SessionError::Unrecorded(_) => {
                Self::new(409, "unrecorded", text, "send a prompt that mends it, or delete the session")
            }
            SessionError::Recovering(_) => Self::new(503, "recovering", text, "try again in a moment"),
            SessionError::NothingFailed(_) => Self::new(409, "nothing_failed", text, "send a prompt instead"),
            SessionError::Environment(error) => error.into(),
            SessionError::Busy(_) => Self::new(409, "busy", text, "stop it, or wait for the turn's end"),
            SessionError::NoCheckpoint(_) => {
                Self::new(404, "no_checkpoint", text, "choose one from the list")
            }
            SessionError::NothingToRewind => {
                Self::new(400, "nothing_to_rewind", text, "set `files`, `conversation` or both")
            }
            SessionError::OwnMemory(_) => Self::new(409, "own_memory", text, "rewind the files alone"),
            SessionError::Rewind(_) => {
                Self::new(409, "not_rewound", text, "look into the sandbox, and try again")
            }
            SessionError::PromptTaken(_) => {
                Self::new(409, "prompt_taken", text, "send another prompt, or stop the turn")
            }
            SessionError::NothingRuns(_) => Self::new(409, "nothing_runs", text, "nothing has to be done"),
            SessionError::NoSandbox(_) => Self::new(409, "no_sandbox", text, "send a prompt; it starts one"),
            SessionError::NoShell(_) => Self::new(404, "shell_not_found", text, "open another one"),
            SessionError::ManyShells(_) => Self::new(429, "many_shells", text, "close one of them"),
            SessionError::Hands(_) => Self::new(409, "sandbox_refused", text, "see what the sandbox says"),
            SessionError::NotAsked(_) => Self::new(409, "question_closed", text, "reload the session"),
            SessionError::NoSuchOption { .. } => {
                Self::new(400, "no_such_option", text, "choose one of the options")
            }
            SessionError::Asking(error) => error.into(),
            SessionError::Secret(error) => error.into(),
            SessionError::Forges(error) => error.into(),
            SessionError::PullRequest(error) => error.into(),
            SessionError::Credential(error) => error.into(),
            SessionError::Audit(_) => {
                Self::new(500, "audit", text, "look at the folder `audit` of the data directory")
            }
            SessionError::Stopping => Self::new(503, "stopping", text, "try again when it is back"),
            SessionError::Git(error) => error.into(),
            SessionError::Store(error) => error.into(),
        }
    }
}

impl From<CredentialError> for Reply {
    fn from(error: CredentialError) -> Self {
        let text = error.to_string();
        match error {
            CredentialError::Off => Self::new(403, "tokens_off", text, "ask who runs this server"),
            CredentialError::Host(_) => Self::new(400, "bad_host", text, "give the host alone"),
            CredentialError::User => Self::new(400, "bad_user", text, "leave it out for the usual one"),
            CredentialError::Token => Self::new(400, "bad_token", text, "send the token alone"),
        }
    }
}

impl From<ForgesError> for Reply {
    fn from(error: ForgesError) -> Self {
        let text = error.to_string();
        let forge = match error {
            ForgesError::NoForge(_) => {
                return Self::new(409, "no_forge", text, "name it in [[forges]] of the configuration");
            }
            ForgesError::NoRepository(_) | ForgesError::Url(_) => {
                return Self::new(400, "bad_repository_url", text, "give another address");
            }
            ForgesError::Store(error) => return error.into(),
            ForgesError::Forge(error) => error,
        };
        match forge {
            ForgeError::Token { .. } | ForgeError::NoToken { .. } => {
                Self::new(403, "forge_token", text, "give the server a token with `patchyard web-setup`")
            }
            ForgeError::Denied { .. } => Self::new(403, "forge_denied", text, "use a token that may do it"),
            ForgeError::NotFound { .. } => {
                Self::new(404, "forge_not_found", text, "check the address and the token")
            }
            ForgeError::Refused { .. } => Self::new(409, "forge_refused", text, "see what the forge says"),
            ForgeError::Limited { .. } => Self::new(429, "forge_limited", text, "try again then"),
            ForgeError::Address { .. } => {
                Self::new(403, "address_not_allowed", text, "ask the operator to open it")
            }
            ForgeError::Status { .. }
            | ForgeError::Resolve { .. }
            | ForgeError::Unreachable { .. }
            | ForgeError::Certificate { .. }
            | ForgeError::Silent { .. }
            | ForgeError::Strange { .. } => Self::new(502, "forge_unreachable", text, "try again later"),
        }
    }
}

impl From<PullRequestError> for Reply {
    fn from(error: PullRequestError) -> Self {
        use PullRequestError as E;
        let text = error.to_string();
        match error {
            E::NoRemote(_) => Self::new(409, "no_remote", text, "pull the branch"),
            E::Nothing => Self::new(409, "nothing_to_propose", text, "send a prompt"),
            E::Busy => Self::new(409, "pull_request_busy", text, "look again in a moment"),
            E::Unpushed { .. } => Self::new(409, "branch_not_pushed", text, "mend that, and try again"),
            E::NoBase { .. } | E::Same(_) => Self::new(400, "bad_base", text, "name another branch"),
            E::Title(_) => Self::new(400, "bad_title", text, "shorten it, on one line"),
            E::Body(_) => Self::new(400, "bad_body", text, "shorten it"),
            E::Log(_) => Self::new(503, "recovering", text, "try again in a moment"),
            E::Forge(error) => error.into(),
        }
    }
}

impl From<SecretError> for Reply {
    fn from(error: SecretError) -> Self {
        let text = error.to_string();
        match error {
            SecretError::NotBound(_) => {
                Self::new(409, "secret_not_bound", text, "add it to the environment's `secrets`, then set it")
            }
            SecretError::Value => Self::new(400, "bad_secret", text, "send the value alone"),
            SecretError::Unset
            | SecretError::NoEntry(_)
            | SecretError::File { .. }
            | SecretError::NoVariable(_)
            | SecretError::Command { .. } => {
                Self::new(409, "no_secret", text, "see the server's configuration")
            }
        }
    }
}

impl From<AskingError> for Reply {
    fn from(error: AskingError) -> Self {
        use AskingError as E;
        let text = error.to_string();
        match error {
            E::Host(_) => Self::new(400, "bad_host", text, "write a host name or an address, and no pattern"),
            E::NotAskable { .. } => Self::new(
                409,
                "not_askable",
                text,
                "ask who configures this server; a person cannot allow it",
            ),
            E::NoNetwork => {
                Self::new(409, "no_network", text, "choose another network level for the environment")
            }
            E::Denied(_) => Self::new(409, "denied", text, "allow it for the session instead"),
            E::TooMany(_) => {
                Self::new(409, "too_many_decisions", text, "add what is needed to the environment's domains")
            }
            E::NoEnvironment(_) => {
                Self::new(409, "no_environment", text, "choose an environment that exists")
            }
            E::Rules(_) => Self::new(409, "bad_rules", text, "mend the environment's domains"),
            E::Egress(_) => Self::new(503, "egress", text, "try again in a moment"),
        }
    }
}

impl From<EnvironmentError> for Reply {
    fn from(error: EnvironmentError) -> Self {
        use EnvironmentError as E;
        let text = error.to_string();
        let (status, code, next) = match error {
            E::NoImage { .. } => (400, "image_not_found", "name one of these, or leave the image out"),
            E::NoTier { .. } => {
                (400, "tier_not_available", "ask for another tier, or mend what `patchyard doctor` marks")
            }
            E::Unknown { .. } => {
                (400, "environment_not_found", "name one of these, or leave the environment out")
            }
            E::Archived(_) => (409, "environment_archived", "bring it back, or choose another one"),
            E::Stale { .. } => (409, "environment_changed", "read it again, and edit what is there now"),
            E::NoTest(_) => (404, "setup_test_not_found", "start another one"),
            E::TooManyTests(_) => (429, "too_many_setup_tests", "wait for one to end"),
            E::Name
            | E::TooLong { .. }
            | E::Variables(_)
            | E::Domain(_)
            | E::Network(_)
            | E::Secret { .. }
            | E::TooManySecrets(_)
            | E::TooManyDomains(_)
            | E::Limit { .. }
            | E::Script => (400, "bad_environment", "change it and send it again"),
        };
        Self::new(status, code, text, next)
    }
}

impl From<GitError> for Reply {
    fn from(error: GitError) -> Self {
        let text = error.to_string();
        match error {
            GitError::BadBundle(_) => Self::new(
                400,
                "bad_bundle",
                text,
                "make it anew with `patchyard --remote`, or `git bundle create`",
            ),
            GitError::NoBranch { .. } => {
                Self::new(400, "branch_not_found", text, "name one of these, or leave it out")
            }
            GitError::NoDefaultBranch { .. } => {
                Self::new(400, "branch_not_found", text, "name one of these with --branch")
            }
            GitError::Empty(_) => Self::new(400, "empty_repository", text, "commit something and push it"),
            GitError::Url(_) => Self::new(400, "bad_repository_url", text, "give another address"),
            GitError::ObjectFormat(_) => Self::new(
                400,
                "object_format",
                text,
                "make a SHA-1 repository of it, such as with git fast-export",
            ),
            GitError::Remote(RemoteError::Credential { .. } | RemoteError::NoCredential { .. }) => Self::new(
                403,
                "repository_credential",
                text,
                "give the server a token with `patchyard web-setup`",
            ),
            GitError::Remote(RemoteError::Denied { .. }) => {
                Self::new(403, "repository_denied", text, "use a token that may do it")
            }
            GitError::Remote(RemoteError::NotFound { .. }) => {
                Self::new(404, "remote_not_found", text, "check the address and the token")
            }
            error if is_away(&error) => Self::new(
                502,
                "repository_unreachable",
                text,
                "check the address, and that the server can reach it",
            ),
            GitError::Timeout { .. } => Self::new(504, "repository_timeout", text, "try again"),
            GitError::Address { .. } => Self::new(
                403,
                "address_not_allowed",
                text,
                "use a public address, or ask the operator to open it",
            ),
            GitError::NoRepository(_) => Self::new(404, "repository_not_found", text, "reload the session"),
            other => Self::internal(&other),
        }
    }
}

/// Whether it is the repository's address that did not answer, and not a git of ours that failed.
fn is_away(error: &GitError) -> bool {
    matches!(error, GitError::Resolve { .. } | GitError::Folder { .. }) || error.is_remote()
}

/// A JSON body; a bad one is told with its line and column.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Reply;

    async fn from_request(request: Request, state: &S) -> Result<Self, Reply> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(body_problem(&rejection)),
        }
    }
}

fn body_problem(rejection: &JsonRejection) -> Reply {
    let detail = rejection.body_text();
    let reply = match rejection {
        JsonRejection::MissingJsonContentType(_) => Reply::new(
            415,
            "not_json",
            "the request has no JSON body",
            "send `content-type: application/json`",
        ),
        _ if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Reply::new(
            413,
            "body_too_large",
            "the request is too large",
            "send less: a prompt has at most 64,000 characters",
        ),
        _ => Reply::new(
            400,
            "bad_json",
            "the request's JSON cannot be read",
            "compare it with /api/v1/openapi.json",
        ),
    };
    reply.detail(detail)
}

/// An id in the path; a bad one is told as such.
pub(crate) struct Id<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Reply;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Reply> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(rejection) => {
                let reply =
                    Reply::new(404, "session_not_found", "there is nothing at this address", "check the id");
                Err(reply.detail(rejection.body_text()))
            }
        }
    }
}

/// Query parameters.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Reply;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Reply> {
        Query::<T>::from_request_parts(parts, state).await.map(|Query(params)| Self(params)).map_err(
            |rejection: QueryRejection| {
                let reply = Reply::new(
                    400,
                    "bad_query",
                    "a query parameter cannot be read",
                    "compare it with /api/v1/openapi.json",
                );
                reply.detail(rejection.body_text())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_git_that_asked_elsewhere_blames_the_address() {
        let status = |action| {
            let reply = Reply::from(GitError::Git { action, words: "no".into() });
            (reply.0.status, reply.0.code.clone())
        };
        assert_eq!(status("ls-remote"), (502, "repository_unreachable".into()));
        assert_eq!(status("fetch"), (502, "repository_unreachable".into()));
        assert_eq!(status("import").0, 500);
        assert_eq!(status("update-ref").0, 500);
    }
}
