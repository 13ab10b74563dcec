//! Creating, changing and deleting.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    apply::{Applier, apply},
    fields::{Manager, after_update},
    kinds::Kind,
    patches::patched,
    refuse::Refusal,
    request::Asked,
    rules,
    schema::{admit, object_mut, without_nothing},
    store::State,
};

/// Who writes, and when.
pub struct Writer<'a> {
    pub who: &'a str,
    pub manager: String,
    pub now: Value,
    /// Nothing is stored.
    pub dry: bool,
}

/// An answer: its status and its object.
pub type Done = Result<(u16, Arc<Value>), Refusal>;

impl State {
    /// Any request that writes one object.
    pub fn write(&mut self, asked: &Asked, by: &Writer<'_>) -> Done {
        match asked.method.as_str() {
            "POST" => self.create(asked.kind, &asked.namespace, &asked.body, by).map(|object| (201, object)),
            "PUT" => self.alter(asked, by, |_| Ok(asked.body.clone())),
            "PATCH" if asked.content_type.starts_with("application/apply-patch") => self.apply(asked, by),
            "PATCH" => self.alter(asked, by, |live| {
                // The version in a patch of the object is a precondition; without one there is none.
                patched(asked.kind, &asked.content_type, live, &asked.body)
            }),
            "DELETE" => self.delete(asked, by),
            method => Err(Refusal::new(405, "MethodNotAllowed", format!("{method} is not for one object"))),
        }
    }

    pub fn create(&mut self, kind: &'static Kind, namespace: &str, body: &Value, by: &Writer<'_>) -> Result<Arc<Value>, Refusal> {
        let mut object = body.clone();
        let metadata = object_mut(&mut object["metadata"]);
        let stem = metadata.remove("generateName").and_then(|stem| stem.as_str().map(str::to_owned));
        let name = match (metadata.get("name").and_then(Value::as_str), stem) {
            (Some(name), _) if !name.is_empty() => name.to_owned(),
            (_, Some(stem)) => format!("{stem}{}", self.suffix()),
            _ => return Err(Refusal::invalid(kind, "", "metadata.name: Required value: name or generateName is required")),
        };
        metadata.insert("name".to_owned(), json!(name));
        if kind.namespaced {
            if metadata.get("namespace").is_some_and(|found| found != namespace) {
                return Err(Refusal::bad(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            metadata.insert("namespace".to_owned(), json!(namespace));
            if self.get(super::kinds::of("Namespace"), "", namespace).is_none() {
                return Err(Refusal::not_found(super::kinds::of("Namespace"), namespace));
            }
        }
        if metadata.get("resourceVersion").is_some_and(|version| version != "") {
            return Err(Refusal::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        if self.get(kind, namespace, &name).is_some() {
            return Err(Refusal::exists(kind, &name));
        }
        for field in ["deletionTimestamp", "managedFields", "selfLink", "generation"] {
            metadata.remove(field);
        }
        metadata.insert("uid".to_owned(), json!(self.uid()));
        metadata.insert("creationTimestamp".to_owned(), by.now.clone());
        if kind.status {
            object_mut(&mut object).remove("status");
        }
        self.finish_new(kind, object, by, |object, by| {
            // What the status is by default is nobody's.
            let mut written = object.clone();
            if kind.status {
                object_mut(&mut written).remove("status");
            }
            let managers = after_update(kind, &json!({}), &written, &by.manager, "", &by.now);
            Manager::write(kind, &managers, object);
        })
    }

    fn finish_new(
        &mut self,
        kind: &'static Kind,
        mut object: Value,
        by: &Writer<'_>,
        own: impl Fn(&mut Value, &Writer<'_>),
    ) -> Result<Arc<Value>, Refusal> {
        if kind.schema.is_none() {
            without_nothing(&mut object);
        }
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.kind);
        if kind.generation {
            object["metadata"]["generation"] = json!(1);
        }
        rules::defaults(kind, &mut object);
        admit(kind, &mut object, None)?;
        own(&mut object, by);
        rules::completed(kind, &mut object, &by.now);
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        if by.dry {
            return Ok(Arc::new(object));
        }
        Ok(self.put(kind, &namespace, &name, Some(object), by.who))
    }

    /// Changes an object or a subresource of it.
    fn alter(&mut self, asked: &Asked, by: &Writer<'_>, to: impl FnOnce(&Value) -> Result<Value, Refusal>) -> Done {
        let kind = asked.kind;
        let live = self.get(kind, &asked.namespace, &asked.name).cloned();
        let live = live.ok_or_else(|| Refusal::not_found(kind, &asked.name))?;
        if asked.subresource == "scale" {
            let scale = to(&rules::scale(kind, &live))?;
            let mut object = (*live).clone();
            object["spec"]["replicas"] = scale["spec"]["replicas"].clone();
            let stored = self.settle(asked, by, &live, object, |managers, before, after| {
                after_update_or(managers, kind, before, after, by, "scale")
            })?;
            return Ok((200, Arc::new(rules::scale(kind, &stored))));
        }
        let mut object = to(&live)?;
        // Who says null says that nothing is there. (Who applies a status that thereby becomes null is refused.)
        if kind.schema.is_some() && object["status"].is_null() {
            object_mut(&mut object).remove("status");
        }
        let stored = self.settle(asked, by, &live, object, |managers, before, after| {
            after_update_or(managers, kind, before, after, by, &asked.subresource)
        })?;
        Ok((200, stored))
    }

    fn apply(&mut self, asked: &Asked, by: &Writer<'_>) -> Done {
        let kind = asked.kind;
        if by.manager == "unknown" || asked.parameter("fieldManager").is_empty() {
            let why = "fieldManager: Required value: is required for apply patch";
            return Err(Refusal::new(422, "Invalid", format!("PatchOptions.meta.k8s.io \"\" is invalid: {why}")));
        }
        if asked.body["apiVersion"] != kind.api_version() || asked.body["kind"] != kind.kind {
            return Err(Refusal::bad("the object in the body is of another kind than the URL"));
        }
        if kind.schema.is_none() && asked.body["metadata"]["name"] != asked.name.as_str() {
            return Err(Refusal::bad("the name of the object does not match the name on the URL"));
        }
        if asked.body["metadata"].get("managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(Refusal::bad("metadata.managedFields must be nil"));
        }
        let applier =
            Applier { name: &by.manager, subresource: &asked.subresource, force: asked.is_set("force"), now: by.now.clone() };
        let mut applied = asked.body.clone();
        keep_to(kind, &asked.subresource, &mut applied);
        let Some(live) = self.get(kind, &asked.namespace, &asked.name).cloned() else {
            if !asked.subresource.is_empty() {
                return Err(Refusal::not_found(kind, &asked.name));
            }
            if applied["metadata"].get("uid").is_some() {
                return Err(Refusal::conflict(
                    kind,
                    &asked.name,
                    "uid mismatch: the provided object specified a uid, and no existing object was found",
                ));
            }
            let metadata = object_mut(&mut applied["metadata"]);
            metadata.insert("name".to_owned(), json!(asked.name));
            if kind.namespaced {
                metadata.insert("namespace".to_owned(), json!(asked.namespace));
                if self.get(super::kinds::of("Namespace"), "", &asked.namespace).is_none() {
                    return Err(Refusal::not_found(super::kinds::of("Namespace"), &asked.namespace));
                }
            }
            let mut object = apply(kind, &json!({}), &applied, &applier)?;
            let metadata = object_mut(&mut object["metadata"]);
            metadata.insert("uid".to_owned(), json!(self.uid()));
            metadata.insert("creationTimestamp".to_owned(), by.now.clone());
            return self.finish_new(kind, object, by, |_, _| {}).map(|object| (201, object));
        };
        let object = apply(kind, &live, &applied, &applier)?;
        let stored = self.settle(asked, by, &live, object, |_, _, after| Manager::all(after))?;
        Ok((200, stored))
    }

    /// What every change goes through between what is wanted and what is stored.
    fn settle(
        &mut self,
        asked: &Asked,
        by: &Writer<'_>,
        live: &Arc<Value>,
        mut object: Value,
        owners: impl FnOnce(Vec<Manager>, &Value, &Value) -> Vec<Manager>,
    ) -> Result<Arc<Value>, Refusal> {
        let (kind, name) = (asked.kind, asked.name.as_str());
        let metadata = object_mut(&mut object["metadata"]);
        if metadata.get("name").is_some_and(|found| found != name) {
            return Err(Refusal::bad(format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                metadata["name"]
            )));
        }
        let version = metadata.get("resourceVersion").and_then(Value::as_str).unwrap_or_default();
        if !version.is_empty() && live["metadata"]["resourceVersion"] != version {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Refusal::conflict(kind, name, why));
        }
        if let Some(uid) = metadata.get("uid").filter(|uid| **uid != live["metadata"]["uid"]) {
            return Err(Refusal::invalid(kind, name, &format!("metadata.uid: Invalid value: {uid}: field is immutable")));
        }
        rules::keep_apart(kind, &asked.subresource, live, &mut object);
        let managers = Manager::all(&object);
        let metadata = object_mut(&mut object["metadata"]);
        for field in
            ["uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "namespace", "name"]
        {
            match live["metadata"].get(field) {
                Some(value) => drop(metadata.insert(field.to_owned(), value.clone())),
                None => drop(metadata.remove(field)),
            }
        }
        metadata.insert("resourceVersion".to_owned(), live["metadata"]["resourceVersion"].clone());
        if kind.schema.is_none() {
            without_nothing(&mut object);
        }
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.kind);
        rules::defaults(kind, &mut object);
        admit(kind, &mut object, Some(live))?;
        rules::check_change(kind, live, &object)?;
        if kind.generation && rules::wants_new_generation(kind, live, &object) {
            object["metadata"]["generation"] = json!(live["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        let managers = owners(managers, live, &object);
        Manager::write(kind, &managers, &mut object);
        if without_times(&object) == without_times(live) {
            return Ok(live.clone());
        }
        if by.dry {
            return Ok(Arc::new(object));
        }
        let over = object["metadata"].get("deletionTimestamp").is_some()
            && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
            && live["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
        if over {
            self.put(kind, &asked.namespace, name, None, by.who);
            return Ok(Arc::new(object));
        }
        Ok(self.put(kind, &asked.namespace, name, Some(object), by.who))
    }

    fn delete(&mut self, asked: &Asked, by: &Writer<'_>) -> Done {
        let (kind, name) = (asked.kind, asked.name.as_str());
        let live = self.get(kind, &asked.namespace, name).cloned().ok_or_else(|| Refusal::not_found(kind, name))?;
        let precondition = &asked.body["preconditions"];
        for (field, here) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            if let Some(wanted) = precondition[field].as_str().filter(|wanted| live["metadata"][field] != *wanted) {
                let why = format!(
                    "Precondition failed: {here} in precondition: {wanted}, {here} in object meta: {}",
                    live["metadata"][field].as_str().unwrap_or_default()
                );
                return Err(Refusal::conflict(kind, name, &why));
            }
        }
        let policy = asked.body["propagationPolicy"].as_str().unwrap_or(asked.parameter("propagationPolicy"));
        let mut object = (*live).clone();
        let finalizer = match policy {
            "Foreground" => Some("foregroundDeletion"),
            "Orphan" => Some("orphan"),
            _ => None,
        };
        if let Some(finalizer) = finalizer {
            let finalizers = &mut object["metadata"]["finalizers"];
            if !finalizers.is_array() {
                *finalizers = json!([]);
            }
            let finalizers = finalizers.as_array_mut().unwrap();
            if !finalizers.contains(&json!(finalizer)) {
                finalizers.push(json!(finalizer));
            }
        }
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
        let grace = rules::grace(kind, &object, asked.body["gracePeriodSeconds"].as_i64());
        if !held && grace.is_none() {
            let gone = self.put(kind, &asked.namespace, name, None, by.who);
            if kind.kind == "Pod" {
                return Ok((200, gone));
            }
            let details = json!({ "name": name, "group": kind.group, "kind": kind.plural, "uid": live["metadata"]["uid"] });
            return Ok((
                200,
                Arc::new(
                    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details }),
                ),
            ));
        }
        let metadata = object_mut(&mut object["metadata"]);
        if metadata.contains_key("deletionTimestamp") {
            return Ok((200, live));
        }
        metadata.insert("deletionTimestamp".to_owned(), by.now.clone());
        metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace.unwrap_or(0)));
        if kind.generation
            && let Some(generation) = metadata.get("generation").and_then(Value::as_i64)
        {
            metadata.insert("generation".to_owned(), json!(generation + 1));
        }
        Ok((200, self.put(kind, &asked.namespace, name, Some(object), by.who)))
    }
}

fn after_update_or(
    _: Vec<Manager>,
    kind: &Kind,
    before: &Value,
    after: &Value,
    by: &Writer<'_>,
    subresource: &str,
) -> Vec<Manager> {
    after_update(kind, before, after, &by.manager, subresource, &by.now)
}

/// Leaves of an applied object only what the subresource may write.
fn keep_to(kind: &Kind, subresource: &str, applied: &mut Value) {
    let applied = object_mut(applied);
    match subresource {
        "status" => applied.retain(|field, _| field != "spec"),
        _ if kind.status => drop(applied.remove("status")),
        _ => {}
    }
    // The name of the status' object stays, as what it is checked by.
    if subresource == "status"
        && let Some(metadata) = applied.get_mut("metadata").and_then(Value::as_object_mut)
    {
        let fields: &[&str] =
            if kind.schema.is_some() { &["name", "namespace"] } else { &["name", "namespace", "uid", "resourceVersion"] };
        metadata.retain(|field, _| fields.contains(&field.as_str()));
    }
}

/// What counts when it is asked whether anything changed.
fn without_times(object: &Value) -> Value {
    let mut object = object.clone();
    for entry in object["metadata"].get_mut("managedFields").and_then(Value::as_array_mut).into_iter().flatten() {
        object_mut(entry).remove("time");
    }
    object
}
