//! TCP.

use super::{Chapter, Families, Requirement};

pub(super) const CHAPTER: Chapter = Chapter {
    title: "TCP",
    requirements: &[
        Requirement::new(
            "tcp-mapping",
            "RFC 5382 §4.1 REQ-1",
            "An inside address and port has one outside address and port, whoever it connects to.",
            &[
                "lab_nat_mapping::one_identifier_or_port_is_one_outside_whoever_is_asked",
                "lab_nat_mapping::a_displaced_port_is_the_same_for_every_peer",
            ],
        ),
        Requirement::new(
            "tcp-sequences",
            "RFC 5382 §4.2 REQ-2",
            "Every valid exchange of segments passes, whatever the links do to it.",
            &[
                "nat::tcp::simulation::nothing_that_an_end_would_take_is_dropped",
                "nat::tcp::simulation::without_loss_or_repetition_nothing_is_dropped_at_all",
                "lab_nat_tcp::a_connection_opens_talks_and_closes_and_nothing_is_left",
                "lab_smol::a_transfer_through_the_translation_survives_bad_links",
                "kernel::nat::a_server_outside_sees_the_outside_address",
            ],
        ),
        Requirement::new(
            "tcp-simultaneous-open",
            "RFC 5382 §4.2 REQ-2 a",
            "Two ends that open one connection at once have it.",
            &[
                "nat::tcp::tests::handshake::both_may_open_at_once",
                "lab_nat_tcp::simultaneous_open_is_an_open",
                "kernel::sockets::both_ends_may_connect_at_once",
            ],
        ),
        Requirement::new(
            "tcp-half-close",
            "RFC 9293 §3.6.1, RFC 5382 §5",
            "Who has sent a FIN may listen for hours; the session lives as long as an open one.",
            &[
                "nat::tcp::tests::window::one_end_may_go_on_for_hours_after_the_other_is_done",
                "lab_nat_tcp::a_half_closed_connection_lives_as_long_as_an_open_one",
                "lab_nat_refresh::who_has_said_all_may_listen_for_hours_and_the_other_may_speak",
                "kernel::sockets::a_server_speaks_on_when_the_client_has_said_all",
            ],
        ),
        Requirement::new(
            "tcp-filtering",
            "RFC 5382 §4.3 REQ-3",
            "Who may connect to a mapping is filtered as UDP is, and selectable.",
            &[
                "lab_nat_mapping::who_may_connect_is_a_matter_of_filtering",
                "lab_nat_tcp::a_server_that_one_has_spoken_to_may_connect_by_default",
                "lab_nat_tcp::a_connection_from_outside_is_not_let_in",
            ],
        ),
        Requirement::new(
            "tcp-unsolicited-syn",
            "RFC 5382 §4.3 REQ-4",
            "A SYN that nobody asked for is not answered, in the first six seconds or later, and so does not spoil \
             a simultaneous open.",
            &[
                "lab_nat_refresh::a_syn_that_nobody_asked_for_is_met_with_silence",
                "kernel::sockets::both_ends_may_connect_at_once",
            ],
        ),
        Requirement::new(
            "tcp-established-timer",
            "RFC 5382 §5 REQ-5",
            "An open connection may be idle for two hours and four minutes; either end keeps it.",
            &[
                "nat::tcp::tests::each_phase_has_its_timeout",
                "lab_nat_tcp::an_open_connection_may_be_silent_for_two_hours_and_four_minutes",
                "lab_nat_refresh::a_connection_is_kept_by_either_end",
            ],
        ),
        Requirement::new(
            "tcp-transitory-timers",
            "RFC 5382 §5 REQ-5, RFC 7857 §2.1",
            "Opening and closing have timers of their own, of four minutes each.",
            &[
                "lab_nat_refresh::opening_and_closing_have_timers_of_their_own",
                "lab_nat_tcp::a_connection_that_nobody_answers_is_forgotten_after_four_minutes",
            ],
        ),
        Requirement::new(
            "tcp-no-gateway-for-applications",
            "RFC 5382 §6 REQ-6",
            "No application gateways, for FTP neither.",
            &["lab_nat_mapping::what_a_payload_says_is_nobodys_business"],
        ),
        Requirement::new(
            "tcp-no-overloading",
            "RFC 5382 §7.1 REQ-7",
            "No outside port is two hosts' at once.",
            &["lab_nat_mapping::towards_different_servers_too_a_port_is_one_hosts"],
        ),
        Requirement::new(
            "tcp-hairpin",
            "RFC 5382 §7.2 REQ-8",
            "A connection by the outside address shows the outside address and port as its source.",
            &[
                "lab_nat_mapping::a_connection_by_the_outside_address_shows_the_outside_address",
                "lab_smol::a_transfer_by_the_outside_address_survives_bad_links",
                "kernel::nat::neighbours_meet_at_the_outside_address",
            ],
        ),
        Requirement::new(
            "tcp-errors-translated",
            "RFC 5382 §7.3 REQ-9, RFC 5927 §4.1",
            "Errors about a connection are translated back if they quote what is in flight, and dropped if not.",
            &[
                "nat::session::tests::only_what_is_in_flight_can_have_met_trouble",
                "lab_nat_icmp::an_error_about_a_segment_must_name_one_in_flight",
                "lab_nat_errors::an_error_about_a_connection_ends_nothing_opening_or_open",
                "kernel::nat::a_narrow_link_outside_is_found_by_senders",
            ],
        ),
        Requirement::new(
            "tcp-errors-end-nothing",
            "RFC 5382 §7.3 REQ-10",
            "No error ends a connection or shortens its timer.",
            &["lab_nat_errors::an_error_about_a_connection_ends_nothing_opening_or_open"],
        ),
        Requirement::new(
            "tcp-windows",
            "RFC 5961 §5, van Rooij 2001 §3",
            "Both ends' windows are tracked, scaled or not, by the inequalities I to IV; what lies outside is dropped \
             and restarts no timer.",
            &[
                "nat::tcp::tests::window::each_inequality_is_needed",
                "nat::tcp::tests::window::the_inequalities_hold_around_the_end_of_the_sequence_space",
                "nat::tcp::tests::window::a_window_is_scaled_if_both_offer_it",
                "lab_nat_refresh::a_window_is_as_wide_as_both_ends_have_agreed",
                "lab_nat_refresh::what_is_outside_the_window_restarts_no_timer",
            ],
        ),
        Requirement::new(
            "tcp-reset",
            "RFC 7857 §2.2, RFC 5961 §3",
            "An exact RST leaves the session four minutes; one that is only in the window passes and touches no timer; \
             another one is dropped.",
            &[
                "nat::tcp::tests::ending::an_exact_reset_ends_a_connection",
                "nat::tcp::tests::ending::a_reset_that_is_not_exact_ends_nothing",
                "lab_nat_tcp::an_exact_reset_ends_the_connection_in_four_minutes",
                "lab_nat_refresh::a_reset_that_is_only_plausible_restarts_no_timer",
                "lab_nat_tcp::a_reset_from_nowhere_is_dropped_and_so_is_data",
            ],
        ),
        Requirement::new(
            "tcp-reset-survived",
            "RFC 7857 §2.2",
            "A connection that goes on after a RST lives on.",
            &[
                "nat::tcp::tests::ending::what_is_not_over_comes_back",
                "lab_nat_tcp::a_connection_that_goes_on_after_a_reset_lives_on",
            ],
        ),
        Requirement::new(
            "tcp-refusal",
            "RFC 9293 §3.5.2",
            "Refused is refused: a RST that answers a SYN carries ACK, heddle's own and an endpoint's.",
            &[
                "lab_published::what_is_not_published_is_refused_by_the_leg_itself",
                "lab_gateway::nothing_listens_on_the_gateway_and_it_says_so",
                "lab_nat_tcp::a_segment_without_a_connection_is_refused_by_a_reset",
                "kernel::sockets::refused_is_refused_in_every_direction",
            ],
        ),
        Requirement::new(
            "tcp-no-early-accept",
            "RFC 9293 §3.5; ours",
            "Nobody but the endpoint accepts or refuses a connection to it.",
            &[
                "lab_nat_refresh::nobody_accepts_or_refuses_for_an_endpoint",
                "kernel::sockets::refused_is_refused_in_every_direction",
            ],
        ),
        Requirement::new(
            "tcp-reuse",
            "RFC 6191, RFC 9293 §3.6.1",
            "The same ports may open again right after both FINs, or a RST.",
            &[
                "nat::tcp::tests::ending::ports_are_reused_as_soon_as_a_connection_is_over",
                "lab_nat_tcp::the_same_ports_may_be_used_again_at_once",
                "lab_nat_refresh::after_a_reset_the_same_ports_open_again_at_once",
            ],
        ),
        Requirement::new(
            "tcp-forgotten",
            "RFC 9293 §3.5.1",
            "Ends that were reset and have forgotten connect again through the old session.",
            &[
                "nat::tcp::simulation::ends_that_forget_connect_again",
                "nat::tcp::tests::forgetting::an_inside_client_that_was_reset_connects_again",
                "nat::tcp::tests::forgetting::an_outside_client_that_was_reset_connects_again",
            ],
        )
        .of(Families::NEITHER),
        Requirement::new(
            "tcp-bounded-buffers",
            "RFC 9293 §3.8; ours",
            "No data is buffered: a full link loses frames and counts them, and what waits for a neighbour is bounded \
             by port.",
            &[
                "switch::neighbour::tests::a_port_that_waits_too_much_loses_its_own_oldest_and_nobody_elses",
                "lab_nat_tcp::a_syn_that_the_full_leg_loses_leaves_nothing_behind",
                "lab_workers::a_port_that_floods_gets_a_burst_and_then_the_others_get_theirs",
            ],
        ),
        Requirement::new(
            "tcp-own-numbers",
            "RFC 6528, RFC 7323",
            "Sequence numbers, window scales and options are the hosts' own and pass as they are.",
            &[
                "lab_nat_refresh::sequence_numbers_and_options_are_the_hosts_own",
                "lab_nat_tcp::where_two_links_differ_a_syn_promises_no_more_than_both_carry",
            ],
        ),
        Requirement::new(
            "tcp-state-table",
            "RFC 6146 §3.5.2.2",
            "Eight states, five inputs, two sides: the whole table.",
            &[
                "nat::tcp::tests::the_transition_table",
                "nat::tcp::tests::each_phase_has_its_timeout",
                "nat::tcp::tests::no_segment_is_too_strange",
            ],
        )
        .of(Families::NEITHER),
    ],
};
