//! What an agent asks the person, and the answer.

use serde::{Deserialize, Serialize};

use crate::ids::QuestionId;

/// Body of `question.asked`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Question {
    /// Its id, for the answer.
    pub question: QuestionId,
    /// The question, one or two sentences.
    pub text: String,
    /// The possible answers, at least two; the first is the safe one and stands when the deadline passes.
    pub options: Vec<QuestionOption>,
}

/// One possible answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QuestionOption {
    /// What the answer carries back.
    pub id: String,
    /// What the button says.
    pub label: String,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Answer {
    /// The chosen option.
    pub option: String,
    /// Whether the deadline chose, not a person.
    #[serde(default)]
    pub by_deadline: bool,
}
