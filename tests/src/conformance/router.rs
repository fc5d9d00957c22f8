//! The router, and the host that a gateway is.

use super::udp::ROUTED;
use super::{Chapter, Families, Requirement};

pub(super) const CHAPTER: Chapter = Chapter {
    title: "Router",
    requirements: &[
        Requirement::new(
            "router-header",
            "RFC 1812 §5.2.2",
            "A header with a wrong length, version or checksum is not routed, whatever the sender's offloads say.",
            &[
                "lab_drops::every_reason_of_the_table_occurs",
                "lab_router::a_header_with_a_wrong_checksum_is_not_routed",
            ],
        )
        .of(Families::V4),
        Requirement::new(
            "router-hops",
            "RFC 1812 §5.3.1, RFC 8200 §3",
            "Each hop is counted; the last one's sender is told.",
            &[
                "lab_router::the_last_hop_is_used_up_and_the_sender_told",
                "lab_nat_icmp::hops_are_counted_in_both_directions_and_the_sender_is_told",
                "kernel::nat::traceroute_shows_every_router",
            ],
        ),
        Requirement::new(
            "router-martians",
            "RFC 1812 §5.3.7, RFC 4291 §2.5",
            "Addresses that nobody can have are neither sources nor destinations: this network, loopback, multicast, \
             reserved, link-local off its link, IPv4-mapped.",
            &[
                "lab_router::sources_that_nobody_can_have_are_not_routed",
                "lab_router::destinations_that_nobody_can_have_are_not_routed",
                "lab_router::link_local_packets_stay_on_their_link",
                "lab_published::link_local_strangers_ping_the_leg_and_get_no_further",
            ],
        ),
        Requirement::new(
            "router-source-validation",
            "RFC 1812 §5.3.8, RFC 2827, RFC 7084 §4.4 S-2",
            "An endpoint sends only from its own addresses; on unless switched off, and then still from nobody else's.",
            &[
                "lab_security::a_source_of_somebody_else_is_refused_in_every_disguise",
                "lab_router::without_port_security_no_address_of_somebody_else_is_routed_for",
                "lab_routes::an_endpoint_that_routes_may_send_for_those_behind_it_and_only_for_those",
                "kernel::bridge::stolen_addresses_get_nowhere",
            ],
        ),
        Requirement::new(
            "router-foreign-source",
            "RFC 4443 §3.1, RFC 7084 §4.3 L-14, RFC 1812 §5.3.8",
            "The router tells an IPv6 sender that its source is not to be used (code 5), an IPv4 sender nothing; what \
             port security stops is not answered.",
            &[
                "lab_router::without_port_security_no_address_of_somebody_else_is_routed_for",
                "lab_security::a_source_of_somebody_else_is_refused_in_every_disguise",
            ],
        ),
        Requirement::new(
            "router-broadcasts",
            "RFC 2644, RFC 1812 §4.2.2.11, §5.3.5",
            "Neither directed nor limited broadcasts are forwarded.",
            &[
                "lab_router::broadcasts_are_not_routed",
                "lab_router::a_broadcast_address_is_nobodys_source",
                "lab_nat_udp::nothing_leaves_to_the_broadcast_address_of_the_legs_link",
            ],
        )
        .of(Families::V4),
        Requirement::new(
            "router-source-routes",
            "RFC 7126 §4.3, RFC 1812 §5.3.13, RFC 5095",
            "The sender does not choose the way: source routes and routing headers of type 0 end.",
            &["lab_router::the_sender_does_not_choose_the_way"],
        ),
        Requirement::new(
            "router-mtu",
            "RFC 1191 §4, RFC 1812 §4.2.2.7, RFC 8201",
            "What is too big and must stay whole is refused with the MTU of the next link.",
            &[
                "lab_mtu::what_is_too_big_and_must_stay_whole_is_refused_with_the_mtu",
                "lab_mtu::a_super_frame_is_as_long_as_the_packets_it_stands_for",
            ],
        ),
        Requirement::new(
            "path-mtu-floor",
            "RFC 8201 §4, RFC 5927 §7",
            "An error with an MTU that no path has, below 576 or 1280 of IPv6, is dropped.",
            &["lab_nat_icmp::an_error_with_an_mtu_that_no_path_has_is_refused"],
        ),
        Requirement::new(
            "rewrite-checksum",
            "RFC 3022 §4.1, RFC 1624",
            "A checksum is updated and not made anew: a corrupt one stays corrupt, none stays none.",
            &[
                "lab_nat_udp::a_corrupt_checksum_stays_corrupt_and_none_stays_none",
                "lab_nat_udp::super_frames_and_partial_checksums_pass_the_translation_as_they_came",
            ],
        ),
        Requirement::new(
            "rewrite-nothing-else",
            "RFC 2474, RFC 3022 §4",
            "Traffic class and payload pass as they are, and so does what must not be cut, in whole.",
            &["lab_nat_udp::traffic_class_identification_and_payload_are_left_as_they_are"],
        ),
        Requirement::new(
            "rewrite-identification",
            "RFC 6864 §5.3.1",
            "Datagrams that may be cut leave with an identification of their own, so that two hosts' fragments do not \
             mix. \"Don't fragment\" is never cleared.",
            &[
                "nat::identification::tests::the_lower_halves_for_one_destination_repeat_only_after_all_others",
                "lab_fragments::each_datagram_that_is_or_may_be_cut_gets_a_number_of_its_own_outside",
                "lab_fragments::what_must_not_be_cut_keeps_its_number_and_its_flag",
                "lab_fragments::fragments_of_two_datagrams_and_two_hosts_do_not_mix",
            ],
        ),
        Requirement::new(
            "fragment-overlap",
            "RFC 5722 §4, RFC 8200 §4.5",
            "Fragments that overlap end their datagram, those still to come included.",
            &["lab_fragments::fragments_that_overlap_end_the_whole_datagram_and_what_is_yet_to_come"],
        ),
        Requirement::new(
            "fragment-atomic",
            "RFC 6946 §4",
            "An atomic fragment is a datagram by itself, whatever others claim its identification.",
            &["lab_fragments::an_atomic_fragment_needs_no_others"],
        )
        .of(Families::V6),
        Requirement::new(
            "fragment-first-whole",
            "RFC 8200 §4.5, RFC 7112 §5, RFC 1858, RFC 3128",
            "A first fragment has the whole header chain and transport header, and none lies inside that.",
            &[
                "lab_drops::every_reason_of_the_table_occurs",
                "switch::reassembly::tests::a_datagram_with_too_many_octets_of_headers_is_refused",
            ],
        )
        .of(Families::NEITHER),
        Requirement::new(
            "fragment-time",
            "RFC 1122 §3.3.2, RFC 8200 §4.5, RFC 792",
            "An incomplete datagram is given up after 30 seconds; who spoke to heddle itself is told.",
            &[
                "switch::reassembly::tests::a_datagram_is_given_up_after_its_time_and_its_first_fragment_shown",
                "lab_fragments::an_incomplete_datagram_is_given_up_and_whoever_spoke_to_us_is_told",
            ],
        ),
        Requirement::new(
            "host-reassembly",
            "RFC 1122 §3.3.2, §3.2.2.6",
            "The gateway puts together what is sent to it, and answers long pings.",
            &[
                "lab_fragments::the_gateway_answers_long_pings_in_fragments_of_its_own",
                "lab_fragments::the_longest_ping_is_answered",
                "lab_fragments::the_leg_answers_long_pings_too",
            ],
        ),
        Requirement::new(
            "router-extension-headers",
            "RFC 8200 §4, RFC 8504 §5.3",
            "Extension headers are in order, whole and few, and no packet is a jumbogram; others end.",
            &["lab_drops::every_reason_of_the_table_occurs"],
        )
        .of(Families::NEITHER),
        Requirement::new(
            "strong-host-model",
            "RFC 1122 §3.3.4.2 (CVE-2019-14899)",
            "Inside addresses are valid from inside only, each from its own port.",
            &[
                "lab_nat_udp::an_answer_at_the_wrong_place_is_not_one",
                "lab_nat_udp::a_flow_belongs_to_the_port_that_began_it",
                "lab_published::nobody_outside_has_an_address_that_is_routed_inside",
            ],
        ),
        Requirement::new(
            "nothing-untranslated",
            "RFC 3022 §2.2; ours",
            "What cannot be translated is not forwarded.",
            &[
                "lab_nat_icmp::a_protocol_without_ports_is_refused_and_counted",
                "lab_nat_udp::a_leg_without_an_address_of_the_family_leads_nowhere",
                "lab_nat_tcp::a_segment_without_a_connection_is_refused_by_a_reset",
            ],
        ),
        Requirement::new(
            "bound-addresses",
            "RFC 4302 §3.3.3, RFC 8200 §4.4",
            "A packet that proves its addresses, or has more of them in a routing header, is refused and not broken.",
            &["lab_nat_icmp::what_proves_its_addresses_or_has_more_of_them_is_not_translated"],
        )
        .of(Families::V6),
        Requirement::new(
            "no-way-out-no-forwarding",
            "RFC 7084 §4.1 G-3, G-4",
            "Without a way out nothing is forwarded there, and the sender is told at once.",
            &[
                "lab_router::without_a_way_out_the_rest_of_the_world_is_unreachable",
                "lab_nat_udp::a_leg_without_an_address_of_the_family_leads_nowhere",
                "kernel::router::an_internal_network_has_no_way_out",
            ],
        ),
        Requirement::new(
            "routed-ipv6-security",
            "RFC 6092 §3",
            "Where IPv6 is routed without translation, only what inside has asked for comes in.",
            &[
                "lab_nat_udp::what_nobody_asked_for_is_dropped_without_an_answer",
                "lab_nat_tcp::a_connection_from_outside_is_not_let_in",
            ],
        )
        .departs(
            "IPv6 is translated like IPv4, so that mappings and filtering do what RFC 6092 asks for",
            ROUTED,
        ),
    ],
};
