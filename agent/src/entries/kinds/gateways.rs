//! Gateways, what they route, and their certificates.

use super::super::shape::Shape::{self, Any, Bool, Int, List, Nanos, Object, Text, TextMap, Time};
use super::super::shape::{Field, alias, always, given};
use super::{HEADERS, JWT, META, PASSIVE_HEALTH_CHECK, TEXTS};

const TLS: Shape = Object(&[
    always("Enabled", Bool),
    given("SDS", SDS),
    given("TLSMinVersion", Text),
    given("TLSMaxVersion", Text),
    given("CipherSuites", TEXTS),
]);

const SDS: Shape = Object(&[given("ClusterName", Text), given("CertResource", Text)]);

const REFERENCE: Shape = Object(&[
    always("Kind", Text),
    always("Name", Text),
    always("SectionName", Text),
    given("Partition", Text),
    given("Namespace", Text),
]);

const STATUS: Shape = Object(&[always(
    "Conditions",
    List(&Object(&[
        always("Type", Text),
        always("Status", Text),
        always("Reason", Text),
        always("Message", Text),
        always("Resource", REFERENCE),
        given("LastTransitionTime", Time),
    ])),
)]);

const FILTER_HEADERS: Shape = List(&Object(&[
    always("Add", TextMap),
    always("Remove", TEXTS),
    always("Set", TextMap),
]));

const FILTERS: Shape = Object(&[
    always("Headers", FILTER_HEADERS),
    given("URLRewrite", Object(&[always("Path", Text)])),
    given(
        "RetryFilter",
        Object(&[
            always("NumRetries", Int),
            always("RetryOn", TEXTS),
            always("RetryOnStatusCodes", List(&Int)),
            always("RetryOnConnectFailure", Bool),
        ]),
    ),
    given(
        "TimeoutFilter",
        Object(&[
            always("RequestTimeout", Nanos),
            always("IdleTimeout", Nanos),
        ]),
    ),
    given("JWT", JWT),
]);

const RESPONSE_FILTERS: Shape = Object(&[always("Headers", FILTER_HEADERS)]);

const MATCH_VALUE: &[Field] = &[
    always("Match", Text),
    always("Name", Text),
    always("Value", Text),
];

const INGRESS_SERVICE: Shape = Object(&[
    always("Name", Text),
    given("Hosts", TEXTS),
    given("Namespace", Text),
    given("Partition", Text),
    given("TLS", Object(&[given("SDS", SDS)])),
    given("RequestHeaders", HEADERS),
    given("ResponseHeaders", HEADERS),
    given("MaxConnections", Int),
    given("MaxPendingRequests", Int),
    given("MaxConcurrentRequests", Int),
    given("PassiveHealthCheck", PASSIVE_HEALTH_CHECK),
]);

pub(super) const INGRESS_GATEWAY: &[Field] = &[
    always("TLS", TLS),
    always(
        "Listeners",
        List(&Object(&[
            always("Port", Int),
            always("Protocol", Text),
            given("TLS", TLS),
            always("Services", List(&INGRESS_SERVICE)),
        ])),
    ),
    given(
        "Defaults",
        Object(&[
            given("MaxConnections", Int),
            given("MaxPendingRequests", Int),
            given("MaxConcurrentRequests", Int),
            given("PassiveHealthCheck", PASSIVE_HEALTH_CHECK),
        ]),
    ),
    META,
];

pub(super) const TERMINATING_GATEWAY: &[Field] = &[
    always(
        "Services",
        List(&Object(&[
            given("Name", Text),
            given("Namespace", Text),
            given("CAFile", Text),
            given("CertFile", Text),
            given("KeyFile", Text),
            given("SNI", Text),
            given("DisableAutoHostRewrite", Bool),
        ])),
    ),
    META,
];

const API_TLS: Shape = Object(&[
    always("Certificates", List(&REFERENCE)),
    alias("MaxVersion", "tls_max_version", Text),
    alias("MinVersion", "tls_min_version", Text),
    given("CipherSuites", TEXTS),
]);

const POLICY: Shape = Object(&[given("JWT", JWT)]);

pub(super) const API_GATEWAY: &[Field] = &[
    always(
        "Listeners",
        List(&Object(&[
            always("Name", Text),
            always("Hostname", Text),
            always("Port", Int),
            always("Protocol", Text),
            always("TLS", API_TLS),
            given("Override", POLICY),
            given("Default", POLICY),
        ])),
    ),
    always("Status", STATUS),
    META,
];

pub(super) const BOUND_API_GATEWAY: &[Field] =
    &[always("Listeners", Any), given("Services", Any), META];

pub(super) const CERTIFICATE: &[Field] = &[
    always("Certificate", Text),
    always("PrivateKey", Text),
    META,
];

pub(super) const HTTP_ROUTE: &[Field] = &[
    always("Parents", List(&REFERENCE)),
    always(
        "Rules",
        List(&Object(&[
            always("Filters", FILTERS),
            always("ResponseFilters", RESPONSE_FILTERS),
            always(
                "Matches",
                List(&Object(&[
                    always("Headers", List(&Object(MATCH_VALUE))),
                    always("Method", Text),
                    always(
                        "Path",
                        Object(&[always("Match", Text), always("Value", Text)]),
                    ),
                    always("Query", List(&Object(MATCH_VALUE))),
                ])),
            ),
            always(
                "Services",
                List(&Object(&[
                    always("Name", Text),
                    always("Weight", Int),
                    always("Filters", FILTERS),
                    always("ResponseFilters", RESPONSE_FILTERS),
                    given("Partition", Text),
                    given("Namespace", Text),
                ])),
            ),
        ])),
    ),
    always("Hostnames", TEXTS),
    META,
    always("Status", STATUS),
];

pub(super) const TCP_ROUTE: &[Field] = &[
    always("Parents", List(&REFERENCE)),
    always(
        "Services",
        List(&Object(&[
            always("Name", Text),
            given("Partition", Text),
            given("Namespace", Text),
        ])),
    ),
    META,
    always("Status", STATUS),
];
