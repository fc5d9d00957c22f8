//! ICMP.

use super::{Chapter, Families, Requirement};

pub(super) const CHAPTER: Chapter = Chapter {
    title: "ICMP",
    requirements: &[
        Requirement::new(
            "icmp-queries",
            "RFC 5508 §3.1 REQ-1",
            "Queries from inside and their answers pass.",
            &[
                "lab_nat_icmp::an_echo_and_its_answer_keep_their_identifier",
                "lab_nat_icmp::a_timestamp_is_a_query_like_an_echo",
                "lab_nat_icmp::an_answer_that_nobody_asked_for_is_dropped",
                "kernel::nat::a_server_outside_sees_the_outside_address",
            ],
        ),
        Requirement::new(
            "icmp-identifier",
            "RFC 5508 §3.1 REQ-1 a",
            "An identifier is mapped to one, whoever is asked, and to another one if it is taken.",
            &[
                "lab_nat_mapping::one_identifier_or_port_is_one_outside_whoever_is_asked",
                "lab_nat_mapping::a_displaced_port_is_the_same_for_every_peer",
                "lab_nat_icmp::two_hosts_with_one_identifier_get_two",
            ],
        ),
        Requirement::new(
            "icmp-query-timer",
            "RFC 5508 §3.2 REQ-2",
            "A query lives for a minute.",
            &["lab_nat_icmp::a_silent_query_ends_after_a_minute"],
        ),
        Requirement::new(
            "icmp-error-checksum",
            "RFC 5508 §4.1 REQ-3",
            "An error with a wrong checksum is dropped, and so is one whose quoted header has one.",
            &["lab_nat_icmp::a_corrupt_error_is_not_translated"],
        ),
        Requirement::new(
            "icmp-error-quote",
            "RFC 5508 §4.1 REQ-3 b to d, RFC 4884",
            "Options in the quote are passed over, its transport checksum is not looked at, extensions behind it are \
             left alone, and eight octets of it are enough.",
            &[
                "lab_nat_errors::a_quote_may_have_options",
                "lab_nat_errors::a_quotes_transport_checksum_is_not_looked_at",
                "lab_nat_errors::what_stands_behind_a_quote_is_passed_on",
                "lab_nat_errors::a_quote_may_be_cut_behind_eight_octets",
            ],
        ),
        Requirement::new(
            "icmp-error-inward",
            "RFC 5508 §4.2 REQ-4",
            "An error from outside reaches whoever sent what it quotes, and quotes that as it was sent; type and code \
             stay. One about nothing that was sent is dropped.",
            &[
                "nat::error::tests::an_error_from_outside_goes_to_who_sent_the_packet_as_it_was_sent",
                "lab_nat_icmp::an_error_from_outside_is_about_what_the_host_has_sent",
                "lab_nat_icmp::an_error_about_a_translated_port_shows_the_hosts_own",
                "lab_nat_icmp::an_error_about_an_echo_shows_its_identifier",
                "lab_nat_icmp::an_error_about_nothing_that_was_sent_is_dropped",
                "lab_faults::forgeries::errors_about_what_was_never_sent_reach_nobody_and_end_nothing",
                "kernel::nat::a_narrow_link_outside_is_found_by_senders",
            ],
        ),
        Requirement::new(
            "icmp-error-identification",
            "RFC 5508 §4.2 REQ-4 a",
            "The quote has the identification that the sender gave.",
            &["lab_nat_errors::an_error_about_what_may_be_cut_quotes_the_number_that_it_left_with"],
        )
        .of(Families::V4)
        .departs(
            "of datagrams that may be cut it has the one they left with, which nobody looks for",
            IDENTIFICATION,
        ),
        Requirement::new(
            "icmp-error-outward",
            "RFC 5508 §4.2 REQ-5",
            "An error from inside leaves with the outside address, in the quote as well; an endpoint cannot complain \
             of what went to another one.",
            &[
                "nat::error::tests::an_error_from_inside_does_not_show_an_inside_address",
                "lab_nat_icmp::an_error_of_the_host_itself_shows_its_outside_address",
                "lab_nat_icmp::an_endpoint_ends_no_flow_of_its_neighbour",
                "kernel::sockets::refused_is_refused_in_every_direction",
            ],
        ),
        Requirement::new(
            "icmp-error-moves-nothing",
            "RFC 5508 §4.3 REQ-6",
            "An error about a query neither prolongs nor ends it.",
            &["lab_nat_refresh::an_error_about_a_query_neither_prolongs_nor_ends_it"],
        ),
        Requirement::new(
            "icmp-error-hairpin",
            "RFC 5508 §5 REQ-7",
            "Errors between two hosts that speak by their outside addresses arrive.",
            &[
                "lab_nat_icmp::an_error_between_two_hosts_that_speak_by_their_outside_addresses_arrives",
                "lab_nat_errors::an_error_about_a_connection_by_the_outside_address_arrives",
            ],
        ),
        Requirement::new(
            "icmp-limit-answer",
            "RFC 5508 §6 REQ-8",
            "A query for which there is no room is refused: ICMP 3/13, ICMPv6 1/1.",
            &["lab_nat_errors::a_query_that_finds_no_room_is_refused"],
        ),
        Requirement::new(
            "icmp-kinds",
            "RFC 5508 §7 REQ-10, RFC 6633",
            "Destination unreachable, time exceeded, packet too big and echo are heddle's to send and to translate; \
             source quench and redirects are not.",
            &[
                "lab_nat_icmp::hops_are_counted_in_both_directions_and_the_sender_is_told",
                "lab_nat_icmp::errors_that_say_nothing_of_a_packets_fate_are_not_translated",
                "lab_nat_icmp::an_echo_to_the_leg_is_answered_by_the_leg",
                "lab_nat_icmp::a_protocol_without_ports_is_refused_and_counted",
                "kernel::nat::traceroute_shows_every_router",
                "kernel::nat::routers_outside_are_heard_inside",
            ],
        ),
        Requirement::new(
            "icmp-no-error-about",
            "RFC 1812 §4.3.2.7, RFC 4443 §2.4 e",
            "No error is about an error, a broadcast, a later fragment, or to a source that nobody can have.",
            &[
                "lab_router::errors_are_not_answered_by_errors",
                "lab_router::sources_that_nobody_can_have_are_not_routed",
                "lab_router::broadcasts_are_not_routed",
                "lab_router::what_is_for_everybody_on_a_link_is_never_answered",
                "lab_gateway::what_needs_no_answer_gets_none",
            ],
        ),
        Requirement::new(
            "icmp-rate",
            "RFC 1812 §4.3.2.8, RFC 4443 §2.4 f",
            "Errors are sent at a limited rate, by port and in all, which cannot be measured exactly \
             (CVE-2020-25705).",
            &[
                "switch::limiter::tests::the_cost_varies_with_the_random_number",
                "lab_router::errors_are_rationed_by_port_and_nobody_pays_for_others",
                "lab_router::a_thousand_refused_packets_get_about_fifty_answers",
            ],
        ),
        Requirement::new(
            "icmp-too-big-passes",
            "RFC 4890 §4.3.1, RFC 4443 §3.2",
            "Packet too big is never held back, unless its MTU is one that no path has.",
            &[
                "lab_nat_errors::no_packet_too_big_is_held_back_however_many_there_are",
                "kernel::nat::a_narrow_link_outside_is_found_by_senders",
            ],
        ),
        Requirement::new(
            "icmp-quote-length",
            "RFC 1812 §4.3.2.3, RFC 4443 §2.4 c",
            "An error quotes as much as fits into 576 octets, or 1280 of IPv6.",
            &["lab_nat_errors::an_error_quotes_as_much_as_it_may_and_no_more"],
        ),
    ],
};

/// Why what may be cut gets another identification.
const IDENTIFICATION: &str = "0010-virtual-reassembly.md";
