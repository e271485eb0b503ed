//! How is a refusal told over HTTP?

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use weft_model::{ObjectRef, Problem, Problems};
use weft_store::StoreError;

use crate::types::{ErrorAnswer, ErrorBody, FieldConflict};

/// A refusal: status and body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", body.message)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// What is told.
    pub body: Box<ErrorBody>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let body = ErrorBody { code: code.to_owned(), message: message.into(), ..ErrorBody::default() };
        Self { status: status.as_u16(), body: Box::new(body) }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn not_found(object: &ObjectRef) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("there is no {object}"))
    }

    /// Others own fields that were to be changed.
    #[must_use]
    pub fn conflicts(conflicts: Vec<FieldConflict>) -> Self {
        let told: Vec<String> = conflicts
            .iter()
            .map(|c| format!("{}: {} is owned by {:?}", c.object, c.field, c.manager))
            .collect();
        let message =
            format!("{}; leave these fields out, or apply with force to take them", told.join("\n"));
        let mut error = Self::new(StatusCode::CONFLICT, "Conflict", message);
        error.body.conflicts = conflicts;
        error
    }
}

impl From<Problems> for ApiError {
    fn from(problems: Problems) -> Self {
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", problems.to_string());
        error.body.problems = problems.0;
        error
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Problems::from(problem).into()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Invalid(problems) => problems.into(),
            StoreError::Conflict { .. } => Self::new(StatusCode::CONFLICT, "Conflict", message),
            StoreError::NotFound(object) => Self::not_found(&object),
            StoreError::InUse { users, .. } => {
                let mut error = Self::new(StatusCode::CONFLICT, "InUse", message);
                error.body.users = users;
                error
            }
            StoreError::Compacted { .. } | StoreError::Future(_) => {
                Self::new(StatusCode::GONE, "Gone", message)
            }
            StoreError::Full(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "Full", message),
            StoreError::Busy(_) | StoreError::Closed => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message)
            }
            StoreError::Disk(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, &ErrorAnswer { error: *self.body });
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"weft\""));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(_) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}
