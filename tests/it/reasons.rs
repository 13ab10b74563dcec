//! Every reason has a test that provokes it. A reason that nothing provokes is a word that nobody has ever seen.

use std::collections::BTreeMap;

use bonafide::api::Reason;

use crate::support::text;

/// Reason, file and test. Where several provoke one, the one that is nearest to what users have.
const PROVOKED: &str = "
Accepted                tests/it/cluster/policies.rs with_a_policy_that_cannot_be_used_nothing_new_is_served_where_it_is_for
Resolved                tests/it/e2e/served.rs a_signed_model_is_served_and_its_story_can_be_read
Signed                  tests/it/e2e/served.rs a_signed_model_is_served_and_its_story_can_be_read
Pinned                  tests/it/cluster/verdicts.rs a_pin_holds_its_content_and_no_other
Verified                tests/it/e2e/served.rs a_signed_model_is_served_and_its_story_can_be_read
Available               tests/it/e2e/served.rs a_signed_model_is_served_and_its_story_can_be_read
Ready                   tests/it/cluster/reasons/mod.rs a_reason_goes_when_its_cause_is_over
Idle                    tests/it/e2e/lifecycle.rs a_model_is_scaled_to_nothing_and_back_by_spec_and_by_kubectl_scale
UpToDate                tests/it/e2e/served.rs a_signed_model_is_served_and_its_story_can_be_read
Unused                  tests/it/sim/corners.rs a_signature_says_whether_it_can_be_read_and_who_has_what_it_is_about
Pending                 src/controller/status/tests.rs before_anything_is_known_it_is_pending
RollingOut              src/controller/status/tests.rs what_a_rollout_says_stands_beside_how_far_its_pods_are
Draining                src/controller/status/tests.rs what_a_rollout_says_stands_beside_how_far_its_pods_are
Gated                   src/controller/diagnose/tests.rs every_step_of_a_pod_is_recognised
Scheduling              src/controller/diagnose/tests.rs every_step_of_a_pod_is_recognised
PullingImage            tests/it/cluster/reasons/scenes.rs a_volume_that_cannot_be_mounted_is_told_from_an_event
Fetching                tests/it/cluster/reasons/mod.rs a_download_says_how_far_it_is_how_fast_and_how_long_it_takes
Loading                 tests/it/cluster/reasons/mod.rs a_reason_goes_when_its_cause_is_over
Vouching                src/controller/status/tests.rs ready_is_never_true_while_a_request_would_fail
Probing                 src/controller/status/tests.rs ready_is_never_true_while_a_request_would_fail
InvalidSpec             tests/it/cluster/unreadable.rs an_object_that_cannot_be_read_says_so_and_the_others_go_on
UnknownEngine           tests/it/e2e/refused.rs a_wish_that_cannot_be_granted_is_refused_by_its_field
NoEngine                src/engine/catalogue.rs when_no_engine_fits_the_message_says_which_would_and_where
UnsupportedFormat       tests/it/e2e/refused.rs a_wish_that_cannot_be_granted_is_refused_by_its_field
AmbiguousFiles          src/engine/select.rs what_users_want_is_exactly_what_is_served
NoFiles                 src/engine/select.rs a_wanted_glob_that_matches_nothing_is_named
TooManyFiles            tests/it/cluster/large.rs a_model_with_more_files_than_can_be_recorded_says_so_and_is_served_once_fewer_are_asked_for
ArgumentNotAllowed      tests/it/e2e/refused.rs a_wish_that_cannot_be_granted_is_refused_by_its_field
EnvironmentNotAllowed   tests/it/e2e/refused.rs a_wish_that_cannot_be_granted_is_refused_by_its_field
AcceleratorNotSupported src/engine/render.rs a_class_without_an_image_says_which_classes_have_one
NameTaken               tests/it/cluster/children.rs a_service_of_somebody_else_is_not_touched_and_the_deployment_says_so
RepositoryNotFound      tests/it/e2e/sources.rs what_the_source_does_not_give_is_told_and_served_by_itself_once_the_cause_is_gone
RevisionNotFound        tests/it/e2e/sources.rs what_the_source_does_not_give_is_told_and_served_by_itself_once_the_cause_is_gone
RepositoryRenamed       tests/it/weights/resolving.rs a_renamed_repository_is_not_followed_and_the_new_name_is_said
AccessDenied            tests/it/e2e/sources.rs what_the_source_does_not_give_is_told_and_served_by_itself_once_the_cause_is_gone
GatedRepo               tests/it/weights/resolving.rs a_gated_repository_says_where_to_accept_its_licence
SecretNotFound          tests/it/cluster/surroundings.rs a_secret_that_is_missing_or_of_another_type_is_named_and_looked_for_again
SecretInvalid           tests/it/cluster/surroundings.rs a_secret_that_is_missing_or_of_another_type_is_named_and_looked_for_again
HostNotAllowed          tests/it/weights/reaching.rs a_redirect_to_a_private_address_reaches_nobody_unless_the_table_names_it
SourceUnavailable       tests/it/e2e/sources.rs a_source_that_is_down_is_waited_for
SourceInvalid           tests/it/weights/resolving.rs files_are_read_whole_and_only_with_the_size_that_was_listed
ClaimNotFound           tests/it/cluster/claims.rs a_claim_that_is_missing_is_named_and_waited_for
Measuring               tests/it/cluster/claims.rs a_claim_is_looked_into_by_a_pod_of_ours_and_only_its_verified_files_are_mounted
NoPolicy                tests/it/e2e/refused.rs without_a_policy_an_unsigned_model_is_served_and_said_to_be_unknown
DefaultDeny             src/trust/tests/verdicts.rs without_a_policy_the_default_decides
PolicyNotAccepted       tests/it/cluster/policies.rs with_a_policy_that_cannot_be_used_nothing_new_is_served_where_it_is_for
PolicyUnreadable        tests/it/cluster/unreadable.rs an_object_that_cannot_be_read_says_so_and_the_others_go_on
NoMatchingRule          src/trust/tests/verdicts.rs a_source_that_no_rule_matches_is_refused_unless_the_policy_accepts_it
Unsigned                tests/it/cluster/verdicts.rs an_unsigned_model_is_refused_and_nothing_of_it_is_started
SignatureInvalid        src/trust/tests/bundles.rs every_flipped_byte_of_payload_and_signature_is_noticed
SignatureMalformed      tests/it/e2e/refused.rs a_signature_that_does_not_hold_is_refused_with_the_reason_that_is_true
SignatureUnsupported    src/trust/tests/bundles.rs methods_that_are_not_supported_are_named
WrongSigner             tests/it/cluster/verdicts.rs a_model_that_somebody_else_signed_is_refused
CertificateExpired      src/trust/tests/certificates/chains.rs what_the_reference_client_accepts_and_should_not_is_refused
CertificateNotYetValid  src/trust/tests/certificates/chains.rs each_thing_that_can_be_wrong_with_a_chain_has_its_reason
CertificateUnfit        src/trust/tests/certificates/chains.rs what_the_reference_client_accepts_and_should_not_is_refused
SignedFileMissing       tests/it/e2e/refused.rs a_signature_that_does_not_hold_is_refused_with_the_reason_that_is_true
UnsignedFile            src/cli/verify/tests.rs each_way_to_tamper_with_a_model_has_its_reason
DigestMismatch          tests/it/e2e/altered.rs bytes_that_are_not_what_was_signed_never_reach_the_engine_and_are_not_fetched_again_until_somebody_says_so
PinMismatch             tests/it/cluster/verdicts.rs a_pin_holds_its_content_and_no_other
ContentNotListed        src/trust/tests/origins.rs a_rule_that_names_contents_takes_those_and_calls_them_pinned
SignedFileLeftOut       src/trust/tests/origins.rs a_policy_that_wants_the_whole_tree_refuses_what_leaves_a_signed_file_out
FormatNotAllowed        src/trust/tests/contents.rs weights_are_of_an_allowed_format_and_only_harmless_files_lie_beside_them
FormatMismatch          tests/it/weights/checks.rs weights_that_are_not_what_their_names_say_are_refused_where_a_policy_wants_that
RemoteCodeDenied        tests/it/weights/checks.rs configuration_that_names_code_is_refused_where_a_policy_denies_that
EngineNotAllowed        src/trust/tests/contents.rs only_the_images_that_a_policy_names_get_the_weights
Denied                  tests/it/cluster/verdicts.rs bytes_that_are_denied_are_refused_whoever_signed_them
InvalidKey              tests/it/cluster/policies.rs with_a_policy_that_cannot_be_used_nothing_new_is_served_where_it_is_for
InvalidPattern          tests/it/cluster/policies.rs names_and_patterns_that_cannot_be_used_are_told_apart
InvalidDigest           src/trust/tests/policies.rs each_field_that_cannot_be_used_is_named_with_its_path
UnknownSigner           tests/it/cluster/policies.rs names_and_patterns_that_cannot_be_used_are_told_apart
Unschedulable           tests/it/cluster/reasons/scenes.rs the_nodes_that_came_near_are_named
WaitingForNode          tests/it/cluster/reasons/scenes.rs a_node_that_is_on_its_way_is_waited_for
NoNodeFits              tests/it/cluster/reasons/scenes.rs a_pod_that_no_node_could_ever_take_says_so
QuotaExceeded           tests/it/cluster/surroundings.rs a_quota_that_is_used_up_is_named
PodsNotCreated          tests/it/cluster/reasons/scenes.rs pods_that_the_cluster_does_not_accept_are_told
ImageNotFound           tests/it/e2e/reasons.rs a_real_node_and_a_real_engine_say_what_is_wrong_and_it_is_told
ImagePullUnauthorized   tests/it/e2e/reasons.rs a_real_node_and_a_real_engine_say_what_is_wrong_and_it_is_told
ImagePullFailed         tests/it/cluster/reasons/scenes.rs an_image_that_does_not_come_says_what_the_node_says
VolumeFailed            tests/it/cluster/reasons/scenes.rs a_volume_that_cannot_be_mounted_is_told_from_an_event
ContainerNotStarted     tests/it/e2e/reasons.rs a_real_node_and_a_real_engine_say_what_is_wrong_and_it_is_told
FetchFailed             tests/it/cluster/reasons/scenes.rs a_fetch_that_fails_is_told
DownloadStalled         tests/it/cluster/reasons/scenes.rs a_download_that_stands_still_is_told
DiskFull                tests/it/cluster/reasons/scenes.rs a_full_disk_is_told
OutOfMemory             tests/it/e2e/reasons.rs a_real_node_and_a_real_engine_say_what_is_wrong_and_it_is_told
DeviceOutOfMemory       tests/it/cluster/reasons/scenes.rs an_accelerator_that_is_too_small_is_told_from_the_log
ContextTooLong          tests/it/cluster/reasons/scenes.rs a_context_that_is_too_long_is_told_from_the_middle_of_the_log
UnknownArchitecture     tests/it/cluster/reasons/scenes.rs an_unknown_architecture_is_told_from_the_log
ArgumentRejected        tests/it/e2e/reasons.rs a_real_node_and_a_real_engine_say_what_is_wrong_and_it_is_told
WeightsDamaged          tests/it/e2e/served.rs files_added_after_signing_are_not_served_and_a_file_that_is_no_model_is_told_about
EngineFailed            tests/it/cluster/reasons/scenes.rs an_engine_that_stops_shows_its_last_lines
CrashLooping            tests/it/cluster/reasons/scenes.rs an_engine_that_stops_again_and_again_is_told
ProbeFailing            tests/it/cluster/reasons/scenes.rs an_engine_that_runs_and_is_not_ready_says_what_the_probe_hears
AnswerFailing           tests/it/cluster/reasons/scenes.rs an_engine_that_says_it_is_ready_and_fails_is_told
Unreachable             tests/it/cluster/reasons/scenes.rs an_engine_that_cannot_be_reached_is_told
NodeLost                tests/it/cluster/reasons/scenes.rs a_node_that_is_lost_is_told
Preempted               tests/it/cluster/reasons/scenes.rs a_pod_that_had_to_give_its_place_is_told
Evicted                 tests/it/cluster/reasons/scenes.rs a_pod_that_its_node_sent_away_is_told
RevisionTooOld          tests/it/sim/checks.rs a_revision_of_an_older_release_is_not_let_in_where_a_policy_wants_more_looked_at
NotVouched              tests/it/cluster/children.rs a_pod_that_is_not_what_was_written_stays_behind_the_gate
RolloutFailed           src/controller/status/tests.rs a_revision_that_was_given_up_says_why_and_how_it_is_tried_again
Paused                  src/controller/status/tests.rs while_it_is_paused_what_is_missing_stays_missing_and_what_answers_is_ready
AssuranceTooLow         src/trust/tests/modes.rs what_is_read_in_place_needs_a_policy_that_says_so
CrdOutdated             tests/it/cluster/definitions.rs without_its_definitions_the_operator_waits_and_with_old_ones_it_says_what_is_missing_and_writes_nothing_for_ever
InternalError           tests/it/cluster/claims.rs a_mistake_of_ours_in_the_pod_that_looks_into_the_claim_is_told_as_one
ApiError                src/controller/status/tests.rs what_the_api_server_did_not_do_is_told_only_while_something_is_missing
";

#[test]
fn every_reason_has_a_test_that_provokes_it() {
    let mut provoked = BTreeMap::new();
    for line in PROVOKED.lines().filter(|line| !line.is_empty()) {
        let [reason, file, test] = line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
        assert!(Reason::named(reason).is_some(), "there is no reason {reason}");
        assert!(text(file).contains(&format!("fn {test}(")), "{reason}: {file} has no {test}");
        assert!(provoked.insert(reason, test).is_none(), "{reason} stands there twice");
    }
    let without: Vec<&str> = Reason::ALL
        .iter()
        .flat_map(|(_, reasons)| reasons.iter().map(|reason| reason.as_str()))
        .filter(|reason| !provoked.contains_key(reason))
        .collect();
    assert!(without.is_empty(), "no test provokes {without:?}");
}
