//! How is a resource described to programs (OpenAPI)?

use std::borrow::Cow;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Ref, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::object::{API_VERSION, Metadata, Object, Spec};
use crate::scalar::MacAddr;
use crate::subnet::Gateway;

/// A value that is written as text.
macro_rules! text {
    ($type:ty, $name:literal, $says:literal, $example:literal) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some($says))
                    .examples([serde_json::Value::from($example)])
                    .into()
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    };
}
text!(MacAddr, "MacAddr", "A MAC address.", "52:54:00:12:34:56");
text!(Gateway, "Gateway", "The gateway's address, `auto` for the first of the prefix, or `none`.", "auto");

impl<S> PartialSchema for Object<S>
where
    S: Spec + ToSchema,
    S::Status: ToSchema,
{
    fn schema() -> RefOr<Schema> {
        let word = |value: &str| ObjectBuilder::new().schema_type(Type::String).enum_values(Some([value]));
        let refer = |name: Cow<'static, str>| Ref::from_schema_name(name.as_ref());
        ObjectBuilder::new()
            .property("apiVersion", word(API_VERSION))
            .required("apiVersion")
            .property("kind", word(S::KIND.name()))
            .required("kind")
            .property("metadata", refer(Metadata::name()))
            .required("metadata")
            .property("spec", refer(S::name()))
            .required("spec")
            .property("status", refer(S::Status::name()))
            .into()
    }
}

impl<S> ToSchema for Object<S>
where
    S: Spec + ToSchema,
    S::Status: ToSchema,
{
    fn name() -> Cow<'static, str> {
        Cow::Borrowed(S::KIND.name())
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Metadata::name().into(), Metadata::schema()));
        schemas.push((S::name().into(), S::schema()));
        schemas.push((S::Status::name().into(), S::Status::schema()));
        Metadata::schemas(schemas);
        S::schemas(schemas);
        S::Status::schemas(schemas);
    }
}
