//! What does one JSON-RPC 1.0 message say?

use serde_json::{Map, Value};

use super::FrameError;

/// A JSON-RPC 1.0 message as OVSDB uses it.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Wants a reply with the same id.
    Request {
        /// Anything but null.
        id: Value,
        /// What is asked.
        method: String,
        /// The arguments.
        params: Vec<Value>,
    },
    /// Wants no reply.
    Notification {
        /// What is told.
        method: String,
        /// The arguments.
        params: Vec<Value>,
    },
    /// Answers a request.
    Reply {
        /// The id of the request.
        id: Value,
        /// The answer, or the error.
        result: Result<Value, Value>,
    },
}

impl Message {
    /// Sorts out what an object is. `params: null` stands for no arguments.
    ///
    /// # Errors
    /// [`FrameError::NotAMessage`].
    pub fn from_json(value: Value) -> Result<Self, FrameError> {
        let Value::Object(mut map) = value else {
            return Err(FrameError::NotAMessage("an object is needed"));
        };
        let mut take = |name: &str| map.remove(name).filter(|v| !v.is_null());
        let (id, method) = (take("id"), take("method"));
        let (params, result, error) = (take("params"), map.remove("result"), map.remove("error"));
        if !map.is_empty() {
            return Err(FrameError::NotAMessage("there is an unknown member"));
        }
        let error = error.filter(|e| !e.is_null());
        match (method, id) {
            (Some(Value::String(method)), id) => {
                if error.is_some() || result.is_some_and(|r| !r.is_null()) {
                    return Err(FrameError::NotAMessage("a request carries no result"));
                }
                let params = match params {
                    None => Vec::new(),
                    Some(Value::Array(params)) => params,
                    Some(_) => return Err(FrameError::NotAMessage("params must be an array")),
                };
                Ok(match id {
                    Some(id) => Self::Request { id, method, params },
                    None => Self::Notification { method, params },
                })
            }
            (Some(_), _) => Err(FrameError::NotAMessage("method must be a string")),
            (None, None) => Err(FrameError::NotAMessage("a reply needs an id")),
            (None, Some(_)) if params.is_some() => Err(FrameError::NotAMessage("a reply carries no params")),
            (None, Some(id)) => match (result, error) {
                (_, Some(error)) => Ok(Self::Reply { id, result: Err(error) }),
                (Some(result), None) => Ok(Self::Reply { id, result: Ok(result) }),
                (None, None) => Err(FrameError::NotAMessage("neither result nor error")),
            },
        }
    }

    /// The object of this message.
    pub fn into_json(self) -> Value {
        let mut map = Map::new();
        let mut put = |name: &str, value: Value| drop(map.insert(name.to_owned(), value));
        match self {
            Self::Request { id, method, params } => {
                put("id", id);
                put("method", method.into());
                put("params", Value::Array(params));
            }
            Self::Notification { method, params } => {
                put("id", Value::Null);
                put("method", method.into());
                put("params", Value::Array(params));
            }
            Self::Reply { id, result } => {
                put("id", id);
                let (result, error) = match result {
                    Ok(result) => (result, Value::Null),
                    Err(error) => (Value::Null, error),
                };
                put("result", result);
                put("error", error);
            }
        }
        Value::Object(map)
    }

    /// The bytes of this message.
    pub fn encode(self) -> Vec<u8> {
        self.into_json().to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_of_messages() {
        let request = json!({"id": 1, "method": "echo", "params": [1]});
        let reply = json!({"id": 1, "result": [], "error": null});
        let notification = json!({"id": null, "method": "update", "params": []});
        let failure = json!({"id": "x", "result": null, "error": "unknown method"});
        for value in [request, reply, notification, failure] {
            let message = Message::from_json(value.clone()).unwrap();
            assert_eq!(message.into_json(), value);
        }
        let bad = [
            json!([]),
            json!({}),
            json!({"id": 1}),
            json!({"id": 1, "method": 1, "params": []}),
            json!({"id": 1, "method": "a", "params": {}}),
            json!({"id": 1, "method": "a", "params": [], "result": 1}),
            json!({"id": 1, "method": "a", "params": [], "jsonrpc": "2.0"}),
            json!({"result": 1, "error": null}),
        ];
        for value in bad {
            assert!(Message::from_json(value.clone()).is_err(), "{value}");
        }
    }
}
