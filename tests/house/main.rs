//! Does the house stand as ARCHITECTURE.md draws it? Dependency direction between rooms, and tidiness of the text.

mod rooms;
mod tidy;
