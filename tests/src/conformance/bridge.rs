//! The bridge.

use super::{Chapter, Families, Requirement};

const NEITHER: Families = Families::NEITHER;

/// Why no port admits one VLAN only.
const VLANS: &str = "0009-vlan-tags-are-content.md";

pub(super) const CHAPTER: Chapter = Chapter {
    title: "Bridge",
    requirements: &[
        Requirement::new(
            "bridge-learning",
            "IEEE 802.1Q §8.7",
            "Stations are learned from valid individual source addresses only; a given one is never learned elsewhere.",
            &[
                "switch::fdb::tests::a_fixed_station_is_never_learned_elsewhere",
                "lab_bridge::an_unknown_station_is_flooded_for_and_found_when_it_answers",
                "lab_bridge::no_station_has_a_group_address_or_none",
                "lab_bridge::a_station_that_moves_is_found_at_its_new_port_at_once",
                "lab_security::without_port_security_given_mac_addresses_are_still_their_owners",
            ],
        )
        .of(NEITHER),
        Requirement::new(
            "bridge-ageing",
            "IEEE 802.1Q §8.8.3",
            "A silent station is forgotten after 300 seconds, and with its port at once.",
            &[
                "lab_bridge::a_station_is_forgotten_after_300_silent_seconds_and_not_before",
                "lab_bridge::stations_of_a_port_end_with_it",
            ],
        )
        .of(NEITHER),
        Requirement::new(
            "bridge-ageing-settable",
            "IEEE 802.1Q §8.8.3",
            "The ageing time can be set, from 10 to 1,000,000 seconds.",
            &["switch::fdb::tests::a_network_may_have_an_ageing_time_of_its_own"],
        )
        .of(NEITHER),
        Requirement::new(
            "bridge-flooding",
            "IEEE 802.1Q §8.6.1",
            "Unknown stations and groups are flooded for, to all others and never back.",
            &[
                "lab_bridge::an_unknown_station_is_flooded_for_and_found_when_it_answers",
                "lab_bridge::broadcast_and_multicast_go_to_all_others_of_the_network_and_not_back",
                "lab_bridge::a_frame_for_a_station_behind_its_own_port_ends_there",
                "kernel::bridge::multicast_reaches_everybody_on_the_network_only",
            ],
        )
        .of(NEITHER),
        Requirement::new(
            "bridge-fairness",
            "IEEE 802.1Q §8.8; ours",
            "A port that floods with addresses replaces its own; the table is bounded, and everybody learns a few.",
            &[
                "switch::fdb::tests::whatever_happens_the_bounds_hold_and_the_counts_are_right",
                "lab_bridge::a_port_full_of_stations_replaces_its_own_and_nobody_elses",
                "lab_bridge::in_a_full_network_everybody_still_learns_the_guaranteed_few",
                "lab_faults::floods::a_flood_of_mac_addresses_pushes_out_only_its_own",
            ],
        )
        .of(NEITHER),
        Requirement::new(
            "bridge-control-addresses",
            "IEEE 802.1Q §8.6.3",
            "01-80-C2-00-00-00 to 0F are not relayed.",
            &["lab_bridge::control_addresses_of_the_link_are_not_forwarded"],
        )
        .of(NEITHER),
        Requirement::new(
            "bridge-vlan-admission",
            "IEEE 802.1Q §6.9",
            "A port without a VLAN drops tagged frames.",
            &[
                "lab_bridge::vlan_tags_pass_untouched",
                "lab_priority::the_gateway_is_in_no_vlan_and_behind_no_second_tag",
            ],
        )
        .of(NEITHER)
        .departs("a network is not a VLAN: tags are content, and end at whatever is heddle's own", VLANS),
        Requirement::new(
            "bridge-priority-tag",
            "IEEE 802.1Q §6.9.1",
            "A priority-tagged frame is an untagged one.",
            &[
                "lab_priority::the_gateway_answers_what_has_only_a_priority",
                "lab_priority::what_is_routed_leaves_without_its_priority_tag",
                "lab_priority::an_l3_endpoint_may_say_a_priority_as_well",
            ],
        ),
        Requirement::new(
            "bridge-storms",
            "IEEE 802.1Q §8.6.5 (policing)",
            "A port floods no more than its rate; a storm of one costs nobody else a frame.",
            &[
                "lab_storm::a_port_floods_no_more_than_storm_control_permits",
                "lab_storm::a_storm_of_one_port_costs_nobody_else_a_frame",
            ],
        )
        .of(NEITHER),
        Requirement::new(
            "bridge-gateway-mac",
            "ours",
            "The gateway's MAC address stays when ports come and go, and is nobody else's.",
            &[
                "lab_gateway::the_gateway_stays_who_it_is_when_ports_come_and_go",
                "lab_gateway::the_gateways_claim_to_its_own_address_is_not_disputed",
            ],
        ),
        Requirement::new(
            "bridge-guards",
            "RFC 6105, RFC 7113, RFC 6980",
            "No endpoint plays the router or the DHCP server or speaks ARP or neighbour discovery for another, behind \
             whatever headers.",
            &[
                "lab_security::nobody_plays_the_router",
                "lab_security::nobody_plays_the_dhcp_server",
                "lab_security::arp_speaks_only_for_its_sender",
                "lab_security::discovery_speaks_only_for_its_sender",
                "lab_security::discovery_does_not_hide_in_fragments",
                "lab_security::ip_does_not_hide_behind_llc",
                "kernel::bridge::stolen_addresses_get_nowhere",
            ],
        )
        .of(NEITHER),
    ],
};
