//! Which method does a client call (RFC 7047 §4.1, ovsdb-server(7) §4.1)?

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{ConnId, Server};
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::monitor::Flavor;
use crate::rpc::Message;
use crate::schema::DatabaseSchema;

/// How a request is answered.
pub(super) enum Answer {
    Now(Value),
    /// The reply is sent elsewhere, now or later.
    Sent,
    /// An error that is a plain string.
    Plain(&'static str),
}

impl Server {
    /// Carries out one message.
    pub(super) fn message(&mut self, id: ConnId, message: Message) {
        match message {
            Message::Request { id: request, method, params } => self.request(id, request, &method, params),
            Message::Notification { method, params } => {
                if method == "cancel"
                    && let [request] = params.as_slice()
                {
                    self.cancel(id, request);
                }
            }
            // Answers to probes; any byte is a sign of life already.
            Message::Reply { .. } => {}
        }
    }

    fn request(&mut self, id: ConnId, request: Value, method: &str, params: Vec<Value>) {
        let answer = self.call(id, &request, method, params);
        let result = match answer {
            Ok(Answer::Now(value)) => Ok(value),
            Ok(Answer::Sent) => return,
            Ok(Answer::Plain(text)) => Err(text.into()),
            Err(error) => Err(error.to_json()),
        };
        self.reply(id, request, result);
    }

    pub(super) fn reply(&mut self, id: ConnId, request: Value, result: Result<Value, Value>) {
        let id_and_result = Message::Reply { id: request, result };
        self.send(id, id_and_result);
    }

    fn call(&mut self, id: ConnId, request: &Value, method: &str, params: Vec<Value>) -> Result<Answer> {
        match method {
            "echo" => Ok(Answer::Now(Value::Array(params))),
            "list_dbs" => {
                let names = self.databases.keys().map(|n| Value::from(n.as_str()));
                Ok(Answer::Now(Value::Array(names.collect())))
            }
            "get_server_id" => Ok(Answer::Now(self.id.to_string().into())),
            "get_schema" => {
                let name = self.database_name(&params)?;
                let schema = self.databases.get(&name).map(|db| db.schema().to_json());
                Ok(Answer::Now(schema.unwrap_or(Value::Null)))
            }
            "transact" => {
                let db = self.database_name(&params)?;
                self.transact(id, request.clone(), db, params)
            }
            "monitor" => self.monitor(id, request, &params, Flavor::Plain),
            "monitor_cond" => self.monitor(id, request, &params, Flavor::Conditional),
            "monitor_cond_since" => self.monitor(id, request, &params, Flavor::Since),
            "monitor_cond_change" => self.monitor_cond_change(id, &params).map(Answer::Now),
            "monitor_cancel" => Ok(self.monitor_cancel(id, &params)),
            "lock" => self.lock(id, &params, false).map(Answer::Now),
            "steal" => self.lock(id, &params, true).map(Answer::Now),
            "unlock" => self.unlock(id, &params).map(Answer::Now),
            "set_db_change_aware" => self.set_change_aware(id, &params).map(Answer::Now),
            "convert" => self.convert_request(id, request, &params),
            _ => Ok(Answer::Plain("unknown method")),
        }
    }

    /// The name of a database that is served: the first parameter of most methods.
    pub(super) fn database_name(&self, params: &[Value]) -> Result<String> {
        let whole = || Value::Array(params.to_vec());
        match params.first() {
            Some(Value::String(name)) if self.databases.contains_key(name) => Ok(name.clone()),
            Some(Value::String(name)) => {
                let details = format!("there is no database {name:?}");
                Err(OvsdbError::new(ErrorKind::UnknownDatabase, details).at(&whole()))
            }
            _ => {
                let details = "the first parameter is the name of a database";
                Err(OvsdbError::syntax(&whole(), details))
            }
        }
    }

    fn set_change_aware(&mut self, id: ConnId, params: &[Value]) -> Result<Value> {
        let [Value::Bool(aware)] = params else {
            let whole = Value::Array(params.to_vec());
            return Err(OvsdbError::syntax(&whole, "the parameter is true or false"));
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.change_aware = *aware;
        }
        Ok(Value::Object(Map::new()))
    }

    fn convert_request(&mut self, id: ConnId, request: &Value, params: &[Value]) -> Result<Answer> {
        let name = self.database_name(params)?;
        let [_, schema] = params else {
            let whole = Value::Array(params.to_vec());
            let details = "the parameters are a database's name and a schema";
            return Err(OvsdbError::syntax(&whole, details));
        };
        if let Some(why) = self.refusal(id, &name) {
            let details = format!("convert is refused: {why}");
            return Err(OvsdbError::new(ErrorKind::NotAllowed, details));
        }
        let schema = DatabaseSchema::from_json(schema)?;
        if schema.name != name {
            let details = format!("schema {} is not one of database {name}", schema.name);
            return Err(OvsdbError::new(ErrorKind::InvalidParameters, details));
        }
        self.convert(&name, Arc::new(schema), Some((id, request)))?;
        Ok(Answer::Sent)
    }
}
