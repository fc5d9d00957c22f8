//! UDP, and what a NAT owes in every protocol: mappings, filtering, ports, limits.

use super::{Chapter, Families, Requirement};

pub(super) const CHAPTER: Chapter = Chapter {
    title: "Mappings, filtering and UDP",
    requirements: &[
        Requirement::new(
            "mapping-endpoint-independent",
            "RFC 4787 §4.1 REQ-1",
            "An inside address and port has one outside address and port, whoever it speaks to.",
            &[
                "nat::mapping::tests::a_mapping_does_not_depend_on_whom_the_endpoint_speaks_to",
                "lab_nat_udp::one_inside_port_is_one_outside_port_whoever_it_speaks_to",
                "lab_nat_mapping::one_identifier_or_port_is_one_outside_whoever_is_asked",
                "kernel::sockets::one_socket_has_one_outside_port_for_every_peer",
            ],
        ),
        Requirement::new(
            "mapping-under-contention",
            "RFC 4787 §4.1 REQ-1, §8 REQ-11",
            "The same where the port had to be another one because its own was taken.",
            &[
                "lab_nat_mapping::a_displaced_port_is_the_same_for_every_peer",
                "kernel::sockets::one_socket_has_one_outside_port_for_every_peer",
            ],
        ),
        Requirement::new(
            "address-pooling-paired",
            "RFC 4787 §4.1 REQ-2, RFC 6888 §3 REQ-2, RFC 7857 §4",
            "All flows of a host leave from one outside address of a family, in every protocol; if that has no \
             port left, the packet is refused and not sent from another address.",
            &[
                "lab_nat_mapping::a_host_has_one_outside_address_whatever_it_speaks_and_to_whom",
                "lab_nat_mapping::without_a_port_at_its_address_a_host_gets_none_at_another",
            ],
        ),
        Requirement::new(
            "port-no-overloading",
            "RFC 4787 §4.2.1 REQ-3",
            "No outside port is two hosts' at once, not even towards different peers.",
            &[
                "nat::ports::tests::a_pool_gives_every_port_of_a_class_once",
                "lab_nat_mapping::towards_different_servers_too_a_port_is_one_hosts",
                "lab_nat_udp::a_port_that_is_taken_is_replaced_by_another_of_its_kind",
            ],
        ),
        Requirement::new(
            "port-range",
            "RFC 4787 §4.2.1 REQ-3 a",
            "A system port (1 to 1023) is mapped to a system port, another one to another one.",
            &["lab_nat_mapping::a_displaced_system_port_is_a_system_port_and_another_is_none"],
        ),
        Requirement::new(
            "port-preserved-without-parity",
            "RFC 4787 §4.2.2 REQ-4 as updated by RFC 7857 §8",
            "A port keeps its number where that is free; where it is not, parity is left to chance.",
            &[
                "lab_nat_mapping::a_port_that_is_free_is_kept_odd_or_even_high_or_low",
                "lab_nat_mapping::ports_on_contention_are_spread_over_all_there_are",
            ],
        ),
        Requirement::new(
            "port-unpredictable",
            "RFC 6056 §3.3.1, RFC 7857 §9, RFC 6888 §3 REQ-15",
            "On contention nobody can foresee which port it will be.",
            &[
                "nat::ports::tests::a_preferred_port_that_is_taken_is_replaced_by_one_that_random_chooses",
                "lab_nat_mapping::ports_on_contention_are_spread_over_all_there_are",
                "lab_nat_mapping::another_seed_gives_other_ports_and_the_same_one_the_same",
            ],
        ),
        Requirement::new(
            "port-not-published",
            "RFC 4787 §4.2.1 REQ-3, CVE-2021-3773",
            "No outward flow gets a port that is published.",
            &[
                "nat::ports::tests::a_reserved_port_is_never_given",
                "lab_published::nobody_gets_a_published_port_for_an_outward_flow",
            ],
        ),
        Requirement::new(
            "udp-timer",
            "RFC 4787 §4.3 REQ-5",
            "A mapping lives for five minutes from its first packet, and no less than two; to port 53 half a minute \
             (REQ-5 a).",
            &[
                "lab_nat_refresh::one_unanswered_datagram_holds_its_mapping_for_five_minutes",
                "lab_nat_udp::a_silent_flow_ends_after_five_minutes_and_gives_its_port_back",
                "lab_nat_udp::a_question_to_a_name_server_is_forgotten_after_half_a_minute",
            ],
        ),
        Requirement::new(
            "udp-refresh",
            "RFC 4787 §4.3 REQ-6, RFC 7857 §7",
            "What is sent from inside prolongs a mapping. What comes from outside does not, and what is refused even \
             less.",
            &[
                "nat::mapping::tests::what_comes_from_outside_does_not_keep_a_mapping",
                "lab_nat_udp::the_inside_keeps_a_flow_alive",
                "lab_nat_udp::only_the_inside_keeps_a_flow_alive",
                "lab_nat_refresh::who_is_refused_keeps_no_flow_alive",
                "lab_nat_refresh::who_is_let_in_but_not_answered_keeps_no_door_open",
            ],
        ),
        Requirement::new(
            "refresh-not-by-errors",
            "RFC 7857 §7.1",
            "An ICMP error or a RST with which the inside answers prolongs nothing.",
            &[
                "lab_nat_refresh::an_error_of_the_inside_keeps_no_flow_alive",
                "lab_nat_refresh::a_reset_of_the_inside_prolongs_nothing",
            ],
        ),
        Requirement::new(
            "inside-apart-from-outside",
            "RFC 4787 §4.4 REQ-7",
            "No subnet inside overlaps another one or a leg's: a plan in which one does is refused.",
            &["switch::config::tests::subnets_do_not_overlap_and_no_leg_is_inside_one"],
        )
        .of(Families::NEITHER),
        Requirement::new(
            "filtering",
            "RFC 4787 §5 REQ-8, RFC 6888 §3 REQ-7",
            "Who may come in is one of `endpoint`, `address` (the default) and `address-port`, as the operator says.",
            &[
                "nat::mapping::tests::whom_a_mapping_lets_in_is_a_matter_of_filtering",
                "nat::mapping::tests::only_an_answer_makes_an_outsider_somebody_that_was_spoken_to",
                "lab_nat_udp::who_is_let_in_is_a_matter_of_filtering",
                "lab_nat_udp::what_nobody_asked_for_is_dropped_without_an_answer",
            ],
        ),
        Requirement::new(
            "hairpin",
            "RFC 4787 §6 REQ-9",
            "Two hosts inside reach each other by their outside addresses, and each sees the other's outside address \
             and port.",
            &[
                "lab_published::two_endpoints_speak_by_their_outside_addresses",
                "lab_published::from_inside_a_published_port_is_reached_by_the_outside_address",
                "lab_published::an_endpoint_reaches_its_own_published_port",
                "kernel::sockets::two_sockets_meet_at_their_outside_addresses",
            ],
        ),
        Requirement::new(
            "no-gateway-for-applications",
            "RFC 4787 §7 REQ-10",
            "What a payload says changes nothing and opens nothing: there are no application gateways.",
            &["lab_nat_mapping::what_a_payload_says_is_nobodys_business"],
        ),
        Requirement::new(
            "deterministic",
            "RFC 4787 §8 REQ-11",
            "Neither mapping nor filtering changes with the load or with time.",
            &[
                "lab_nat_mapping::neither_mapping_nor_filtering_changes_with_the_load",
                "lab_nat_mapping::another_seed_gives_other_ports_and_the_same_one_the_same",
            ],
        ),
        Requirement::new(
            "udp-errors-end-nothing",
            "RFC 4787 §9 REQ-12",
            "No ICMP message ends a mapping; errors are let in whichever router they are from.",
            &[
                "lab_nat_icmp::an_error_from_outside_is_about_what_the_host_has_sent",
                "lab_nat_errors::an_error_comes_from_whichever_router_met_it",
                "kernel::nat::a_refusal_outside_is_a_refusal_inside",
            ],
        ),
        Requirement::new(
            "too-big-refused-or-cut",
            "RFC 4787 §10 REQ-13",
            "What is too big for the way out and must stay whole is refused with the MTU; what may be cut is cut, \
             in order.",
            &[
                "lab_nat_udp::what_is_too_big_for_the_way_out_is_refused_with_the_mtu",
                "lab_nat_udp::what_may_be_cut_is_translated_and_cut",
                "lab_nat_icmp::an_answer_that_is_too_big_for_its_host_is_refused_with_the_mtu",
                "lab_fragments::fragments_too_long_for_the_way_out_are_cut_further_in_ipv4",
                "lab_fragments::fragments_that_must_not_be_cut_further_are_refused_with_the_mtu_and_quoted_as_they_were",
            ],
        ),
        Requirement::new(
            "fragments-in-any-order",
            "RFC 4787 §11 REQ-14",
            "A datagram in fragments is translated like any other, whatever order they come in.",
            &[
                "switch::reassembly::tests::fragments_in_any_order_come_together_as_octet_by_octet",
                "lab_fragments::a_datagram_in_fragments_opens_a_session_and_leaves_as_it_came",
                "lab_fragments::fragments_may_come_in_any_order_and_leave_in_the_same",
                "lab_fragments::the_answer_in_fragments_comes_back_through_the_session",
                "kernel::sockets::long_datagrams_go_out_and_come_back",
            ],
        ),
        Requirement::new(
            "fragments-no-denial",
            "RFC 4787 §11 REQ-14 a, CVE-2018-5391",
            "Fragments that never become a datagram use up their sender's share and nobody else's.",
            &[
                "switch::reassembly::tests::whoever_has_too_many_datagrams_gives_up_his_own_oldest",
                "switch::reassembly::tests::many_ports_at_once_never_cost_more_than_there_is_and_leave_nothing",
                "lab_fragments::five_thousand_incomplete_trains_harm_nobody_else_and_are_over_by_themselves",
            ],
        ),
        Requirement::new(
            "port-rest",
            "RFC 6888 §3 REQ-8",
            "A returned port rests for 120 seconds before somebody else gets it; TCP, whose end is seen, may be cut \
             short if nothing else is free.",
            &[
                "nat::ports::tests::a_port_rests_for_everybody_but_its_last_owner",
                "nat::ports::tests::only_tcp_cuts_a_rest_and_the_longest_one_first",
                "lab_nat_limits::a_returned_port_rests_before_somebody_else_gets_it",
            ],
        ),
        Requirement::new(
            "limit-per-endpoint",
            "RFC 6888 §3 REQ-4, REQ-5",
            "An endpoint has so many ports and sessions and no more; at its limit it gives up its own, and its \
             neighbours lose nothing.",
            &[
                "nat::mapping::tests::an_owner_reclaims_its_own_oldest_session_and_nobody_elses",
                "nat::open::tests::who_has_a_full_share_is_refused_and_nothing_is_left_of_the_try",
                "nat::limits::tests::a_flood_of_syns_from_outside_costs_nothing_that_was_begun_inside_or_is_in_use",
                "nat::limits::tests::a_flood_from_one_network_replaces_itself",
                "nat::limits::tests::the_last_of_the_table_is_for_those_who_have_little",
                "lab_nat_limits::at_its_quota_an_endpoint_loses_its_own_oldest_unanswered_flow",
                "lab_nat_limits::a_full_table_takes_nothing_from_others",
                "lab_faults::floods::a_flood_of_syns_from_outside_costs_no_more_than_who_has_not_finished_knocking",
                "lab_faults::floods::forty_thousand_flows_of_one_endpoint_leave_the_others_their_ports",
                "lab_faults::tables::a_full_session_table_has_room_for_those_who_have_little",
            ],
        ),
        Requirement::new(
            "limit-memory",
            "RFC 6888 §3 REQ-5",
            "What all tables together can take is known beforehand.",
            &[
                "nat::limits::tests::what_is_full_takes_no_more_memory_than_was_said",
                "switch::fdb::tests::what_is_full_takes_no_more_memory_than_was_said",
            ],
        )
        .of(Families::NEITHER),
        Requirement::new(
            "limit-answer",
            "RFC 5508 §6 REQ-8",
            "Who is refused for want of room is told so: ICMP 3/13, ICMPv6 1/1.",
            &[
                "lab_nat_limits::when_no_port_is_free_the_sender_is_told",
                "lab_nat_limits::at_its_quota_an_endpoint_with_nothing_to_lose_is_refused_and_nobody_else",
            ],
        ),
        Requirement::new(
            "protocols-apart",
            "RFC 7857 §5, §6",
            "The mappings of one protocol, and whom they let in, have nothing to do with those of another.",
            &[
                "lab_nat_mapping::the_mappings_of_two_protocols_have_nothing_to_do_with_each_other",
                "lab_nat_udp::the_same_port_of_another_protocol_is_another_port",
            ],
        ),
        Requirement::new(
            "untranslated-destinations",
            "RFC 6888 §3 REQ-6",
            "Some destinations may be reached untranslated.",
            &[
                "lab_router::a_packet_to_a_network_that_is_routed_to_arrives_one_hop_later",
                "lab_router::without_a_way_out_the_rest_of_the_world_is_unreachable",
                "kernel::router::networks_are_routed_where_that_is_asked_for",
            ],
        )
        .departs(
            "networks and static routes inside are reached untranslated, the outside never is",
            ROUTED,
        ),
        Requirement::new(
            "explicit-mappings",
            "RFC 6888 §3 REQ-9, RFC 6887",
            "Hosts may ask for mappings (PCP).",
            &[
                "lab_gateway::a_host_that_asks_for_a_mapping_is_told_that_nobody_gives_any",
                "kernel::nat::a_published_port_shows_the_client_as_it_is",
            ],
        )
        .departs(
            "the operator publishes ports; no endpoint opens its own",
            PCP,
        ),
    ],
};

/// Why there is no way out without translation.
pub(super) const ROUTED: &str = "0011-no-way-out-untranslated.md";

/// Why endpoints cannot ask for mappings.
const PCP: &str = "0012-no-mappings-on-request.md";
