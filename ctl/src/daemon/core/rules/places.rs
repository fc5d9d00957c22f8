//! Names of places: what they mean when a rule is made, and where they are when it is compiled.

use heddle_nat::Side;
use heddle_nat::filter::{Interface, Interfaces, NetworkNumber};

use crate::api::{ApiError, ErrorCode, Name, Place, Rule, UplinkSpec};
use crate::daemon::core::Core;

/// Names in a hint; the rest is not listed.
const LISTED: usize = 12;

impl Core {
    /// What a name means, which must be something that is there.
    pub(super) fn settle_place(&self, place: &Place) -> Result<Place, ApiError> {
        match place {
            Place::Bare(name) => self.settle_name(name),
            Place::Network(network) => {
                let known = self.network(network)?;
                Ok(Place::Network(known.record.name.clone()))
            }
            Place::Endpoint(network, sandbox) => {
                if let Some(network) = network {
                    self.network(network)?;
                }
                let in_network = |there: &&Name| {
                    network
                        .as_ref()
                        .is_none_or(|network| there.folded() == network.folded())
                };
                if self
                    .networks_of(sandbox)
                    .iter()
                    .any(|there| in_network(&there))
                {
                    return Ok(place.clone());
                }
                let message = match network {
                    Some(network) => format!("there is no sandbox {sandbox} in network {network}"),
                    None => format!("there is no sandbox {sandbox}"),
                };
                Err(self.unknown_place(message))
            }
            Place::Uplink(kind) => {
                let mut uplinks = self.uplinks();
                let is_there = match kind {
                    None => uplinks.next().is_some(),
                    Some(kind) => uplinks.any(|there| there == kind),
                };
                if is_there {
                    return Ok(place.clone());
                }
                Err(self.unknown_place(match kind {
                    None => "no network has an uplink".to_owned(),
                    Some(kind) => format!("no network has the uplink {kind}"),
                }))
            }
        }
    }

    /// The one thing that has a name.
    fn settle_name(&self, text: &str) -> Result<Place, ApiError> {
        let folded = text.to_ascii_lowercase();
        let mut found = Vec::new();
        if let Some(network) = self.networks.get(&folded) {
            found.push(Place::Network(network.record.name.clone()));
        }
        let mut endpoints = self
            .networks
            .values()
            .flat_map(|network| &network.endpoints);
        if let Some((_, endpoint)) = endpoints.find(|(name, _)| **name == folded) {
            found.push(Place::Endpoint(None, endpoint.record.sandbox.clone()));
        }
        let mut uplinks: Vec<&UplinkSpec> = self
            .uplinks()
            .filter(|kind| is_called(kind, text))
            .collect();
        uplinks.dedup();
        found.extend(
            uplinks
                .first()
                .map(|&kind| Place::Uplink(Some(kind.clone()))),
        );
        if folded == "uplink" && found.is_empty() {
            return self.settle_place(&Place::Uplink(None));
        }
        match found.as_slice() {
            [place] => Ok(place.clone()),
            [] => {
                let message = format!("there is no network, sandbox or uplink called {text}");
                Err(self.unknown_place(message))
            }
            several => {
                let texts: Vec<String> = several.iter().map(ToString::to_string).collect();
                let message = format!("several things are called {text}");
                Err(ApiError::new(ErrorCode::InvalidRule, message)
                    .hint(format!("say which: {}", texts.join(", "))))
            }
        }
    }

    fn uplinks(&self) -> impl Iterator<Item = &UplinkSpec> {
        let kinds = self
            .networks
            .values()
            .map(|network| &network.record.uplink.kind);
        kinds.filter(|kind| **kind != UplinkSpec::None)
    }

    fn unknown_place(&self, message: String) -> ApiError {
        let networks = self
            .networks
            .values()
            .map(|network| network.record.name.to_string());
        let sandboxes = self.networks.values().flat_map(|network| {
            let endpoints = network.endpoints.values();
            endpoints.map(|endpoint| endpoint.record.sandbox.to_string())
        });
        let uplinks = self.uplinks().map(ToString::to_string);
        let mut known: Vec<String> = networks.chain(sandboxes).chain(uplinks).collect();
        known.sort();
        known.dedup();
        let hint = match known.len() {
            0 => {
                "there is nothing yet: make a network first, with heddle network create".to_owned()
            }
            len if len > LISTED => "see what there is: heddle network ls, heddle status".to_owned(),
            _ => format!("there is: {}", known.join(", ")),
        };
        ApiError::new(ErrorCode::InvalidRule, message).hint(hint)
    }

    /// Where a place is at present; nowhere, if it has gone.
    pub(super) fn interfaces(&self, place: &Place) -> Interfaces {
        let mut interfaces = Interfaces::default();
        match place {
            // Settled long ago.
            Place::Bare(_) => {}
            Place::Network(network) => {
                let known = self.networks.get(&network.folded());
                interfaces.networks = known
                    .map(|network| NetworkNumber(network.record.number))
                    .into_iter()
                    .collect();
            }
            Place::Endpoint(network, sandbox) => {
                let folded = network.as_ref().map(Name::folded);
                let networks = self.networks.iter();
                let networks =
                    networks.filter(|(name, _)| folded.as_ref().is_none_or(|it| it == *name));
                interfaces.ports = networks
                    .filter_map(|(_, network)| {
                        let endpoint = network.endpoints.get(&sandbox.folded())?;
                        Some(Interface {
                            side: Side(endpoint.number.0),
                            network: Some(NetworkNumber(network.record.number)),
                        })
                    })
                    .collect();
            }
            Place::Uplink(kind) => {
                let legs = self.legs.values();
                let legs =
                    legs.filter(|leg| kind.as_ref().is_none_or(|kind| leg.key.kind == *kind));
                interfaces.ports = legs
                    .map(|leg| Interface {
                        side: Side(leg.number.0),
                        network: None,
                    })
                    .collect();
            }
        }
        interfaces
    }
}

/// Whether people may call an uplink so: in full, by its interface, or by the name of its namespace.
fn is_called(kind: &UplinkSpec, text: &str) -> bool {
    match kind {
        UplinkSpec::None => false,
        UplinkSpec::Packet(interface) => interface == text,
        UplinkSpec::Netns(path) => path.file_name().is_some_and(|name| name == text),
    }
}

/// Whether a rule names a network.
pub(super) fn names_network(rule: &Rule, network: &Name) -> bool {
    let places = [&rule.in_interface, &rule.out_interface];
    places.into_iter().flatten().any(|place| match &place.set {
        Place::Network(named) | Place::Endpoint(Some(named), _) => {
            named.folded() == network.folded()
        }
        _ => false,
    })
}
