//! Models with more files than Kubernetes can record: told with numbers, and never tried in vain.

use localcluster::hub::Faults;
use serde_json::json;

use super::{
    place::{NAME, Place, condition, text},
    world::World,
};

#[tokio::test]
async fn a_model_with_more_files_than_can_be_recorded_says_so_and_is_served_once_fewer_are_asked_for() {
    // Its hub lists what no other test wants.
    let world = World::with_operator().await;
    let place = Place::new(&world).await;
    let source = place.publish("Many-GGUF", &[("parrot.gguf", "the weights of a parrot"), ("README.md", "A parrot.")]);
    let extra_paths = (0..20_000).map(|number| format!("many/{number}.txt")).collect();
    world.hub.set_faults(Faults { extra_paths, ..Faults::default() });
    let model = |files: &[&str]| json!({"spec": {"model": {"source": source, "files": files}}});
    place.create("ModelDeployment", NAME, model(&["parrot.gguf", "many/**"])).await;
    let object = place.condition(NAME, "SourceResolved", "False", "TooManyFiles").await;
    let message = text(&condition(&object, "SourceResolved").unwrap()["message"]);
    assert!(message.contains("20001 files are more than the 4096") && message.contains("spec.model.files"), "{message}");
    assert_eq!(condition(&object, "Ready").unwrap()["reason"], "TooManyFiles");
    let read = world.hub.requests().iter().filter(|request| request.path.contains("/resolve/")).count();
    assert_eq!(read, 0, "files were read for nothing");
    for kind in ["ControllerRevision", "ConfigMap", "Deployment"] {
        assert!(place.of(kind, NAME).await.is_empty(), "{kind}: nothing is begun that cannot be ended");
    }
    place.change("ModelDeployment", NAME, model(&["parrot.gguf", "README.md"])).await;
    place.let_in(NAME, 1).await;
}
