//! The health rules of `docs/gitops.md`, run as Argo CD runs them: Lua 5.1, the object as `obj`.

use mlua::{Lua, LuaSerdeExt as _};
use serde_json::Value;

use super::text;

/// `Healthy`, `Progressing`, `Degraded` or `Suspended`, and what is said.
pub fn health(object: &Value) -> (String, String) {
    let manual = text("docs/gitops.md");
    let script = manual.split("```lua\n").nth(1).expect("docs/gitops.md has the rules").split("```").next().unwrap();
    let lua = Lua::new();
    // Argo CD gives no value for what is null or absent.
    let options = mlua::SerializeOptions::new().serialize_none_to_null(false).serialize_unit_to_null(false);
    lua.globals().set("obj", lua.to_value_with(object, options).unwrap()).unwrap();
    let health: mlua::Table = lua.load(script).eval().unwrap_or_else(|error| panic!("{error} with {object}"));
    (health.get("status").unwrap(), health.get::<Option<String>>("message").unwrap().unwrap_or_default())
}
