//! The kinds of entries, each with the fields that Consul's JSON has.

mod gateways;

use super::shape::Shape::{
    self, Any, Bool, Duration, Float, Int, List, Map, Nanos, Object, Text, TextMap, Time,
};
use super::shape::{Field, alias, always, given};
use gateways::{
    API_GATEWAY, BOUND_API_GATEWAY, CERTIFICATE, HTTP_ROUTE, INGRESS_GATEWAY, TCP_ROUTE,
    TERMINATING_GATEWAY,
};

/// One kind.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// Its fields, without kind, name, partition, namespace and indexes.
    pub(super) fields: &'static [Field],
    /// The only name that an entry of it may have; empty for any.
    pub(super) only: &'static str,
    /// Whether its JSON has a name.
    pub(super) named: bool,
}

const fn kind(name: &'static str, fields: &'static [Field]) -> Kind {
    Kind {
        name,
        fields,
        only: "",
        named: true,
    }
}

const TEXTS: Shape = List(&Text);
const MODE: Shape = Object(&[given("Mode", Text)]);

const TRANSPARENT_PROXY: Shape = Object(&[
    given("OutboundListenerPort", Int),
    given("DialedDirectly", Bool),
]);

const EXPOSE: Shape = Object(&[
    given("Checks", Bool),
    given(
        "Paths",
        List(&Object(&[
            given("ListenerPort", Int),
            given("Path", Text),
            given("LocalPathPort", Int),
            given("Protocol", Text),
            always("ParsedFromCheck", Bool),
        ])),
    ),
]);

const LIMITS: Shape = Object(&[
    given("MaxConnections", Int),
    given("MaxPendingRequests", Int),
    given("MaxConcurrentRequests", Int),
]);

const PASSIVE_HEALTH_CHECK: Shape = Object(&[
    given("Interval", Nanos),
    given("MaxFailures", Int),
    given("EnforcingConsecutive5xx", Int),
    given("MaxEjectionPercent", Int),
    given("BaseEjectionTime", Nanos),
]);

const UPSTREAM: Shape = Object(&[
    given("Name", Text),
    given("Partition", Text),
    given("Namespace", Text),
    given("Peer", Text),
    given("EnvoyListenerJSON", Text),
    given("EnvoyClusterJSON", Text),
    given("Protocol", Text),
    given("ConnectTimeoutMs", Int),
    given("Limits", LIMITS),
    given("PassiveHealthCheck", PASSIVE_HEALTH_CHECK),
    always("MeshGateway", MODE),
    given("BalanceOutboundConnections", Text),
]);

const EXTENSIONS: Shape = List(&Object(&[
    always("Name", Text),
    always("Required", Bool),
    always("Arguments", Any),
    always("ConsulVersion", Text),
    always("EnvoyVersion", Text),
]));

const RATE_LIMITS: Shape = Object(&[always(
    "InstanceLevel",
    Object(&[
        always("RequestsPerSecond", Int),
        always("RequestsMaxBurst", Int),
        always(
            "Routes",
            List(&Object(&[
                always("PathExact", Text),
                always("PathPrefix", Text),
                always("PathRegex", Text),
                always("RequestsPerSecond", Int),
                always("RequestsMaxBurst", Int),
            ])),
        ),
    ]),
)]);

const FAILOVER_POLICY: Shape = Object(&[given("Mode", Text), given("Regions", TEXTS)]);

const HEADERS: Shape = Object(&[
    given("Add", TextMap),
    given("Set", TextMap),
    given("Remove", TEXTS),
]);

const JWT: Shape = Object(&[given(
    "Providers",
    List(&Object(&[
        given("Name", Text),
        given(
            "VerifyClaims",
            List(&Object(&[given("Path", TEXTS), given("Value", Text)])),
        ),
    ])),
)]);

const HEADER_MATCH: &[Field] = &[
    always("Name", Text),
    given("Present", Bool),
    given("Exact", Text),
    given("Prefix", Text),
    given("Suffix", Text),
    given("Contains", Text),
    given("Regex", Text),
    given("Invert", Bool),
    given("IgnoreCase", Bool),
];

const PERMISSIONS: Shape = List(&Object(&[
    always("Action", Text),
    given(
        "HTTP",
        Object(&[
            given("PathExact", Text),
            given("PathPrefix", Text),
            given("PathRegex", Text),
            given("Header", List(&Object(HEADER_MATCH))),
            given("Methods", TEXTS),
        ]),
    ),
    given("JWT", JWT),
]));

const DIRECTION: Shape = Object(&[
    given("TLSMinVersion", Text),
    given("TLSMaxVersion", Text),
    given("CipherSuites", TEXTS),
]);

const RATES: Shape = Object(&[always("ReadRate", Float), always("WriteRate", Float)]);

const LOCALITY: Shape = MODE;

/// Every kind of the community edition.
pub(super) static KINDS: &[Kind] = &[
    kind("service-defaults", SERVICE_DEFAULTS),
    Kind {
        only: "global",
        ..kind("proxy-defaults", PROXY_DEFAULTS)
    },
    kind("service-router", SERVICE_ROUTER),
    kind("service-splitter", SERVICE_SPLITTER),
    kind("service-resolver", SERVICE_RESOLVER),
    kind("ingress-gateway", INGRESS_GATEWAY),
    kind("terminating-gateway", TERMINATING_GATEWAY),
    kind("service-intentions", SERVICE_INTENTIONS),
    Kind {
        only: "mesh",
        named: false,
        ..kind("mesh", MESH)
    },
    Kind {
        only: "default",
        ..kind("exported-services", EXPORTED_SERVICES)
    },
    kind("api-gateway", API_GATEWAY),
    kind("bound-api-gateway", BOUND_API_GATEWAY),
    kind("inline-certificate", CERTIFICATE),
    kind("file-system-certificate", CERTIFICATE),
    kind("http-route", HTTP_ROUTE),
    kind("tcp-route", TCP_ROUTE),
    kind("jwt-provider", JWT_PROVIDER),
    kind("control-plane-request-limit", REQUEST_LIMIT),
];

const META: Field = given("Meta", TextMap);

const SERVICE_DEFAULTS: &[Field] = &[
    given("Protocol", Text),
    given("Mode", Text),
    always("TransparentProxy", TRANSPARENT_PROXY),
    given("MutualTLSMode", Text),
    always("MeshGateway", MODE),
    always("Expose", EXPOSE),
    given("ExternalSNI", Text),
    given(
        "UpstreamConfig",
        Object(&[
            given("Overrides", List(&UPSTREAM)),
            given("Defaults", UPSTREAM),
        ]),
    ),
    given(
        "Destination",
        Object(&[given("Addresses", TEXTS), given("Port", Int)]),
    ),
    given("MaxInboundConnections", Int),
    given("LocalConnectTimeoutMs", Int),
    given("LocalRequestTimeoutMs", Int),
    given("BalanceInboundConnections", Text),
    given("RateLimits", RATE_LIMITS),
    given("EnvoyExtensions", EXTENSIONS),
    META,
];

const PROXY_DEFAULTS: &[Field] = &[
    given("Config", Any),
    given("Mode", Text),
    always("TransparentProxy", TRANSPARENT_PROXY),
    given("MutualTLSMode", Text),
    always("MeshGateway", MODE),
    always("Expose", EXPOSE),
    given(
        "AccessLogs",
        Object(&[
            given("Enabled", Bool),
            given("DisableListenerLogs", Bool),
            given("Type", Text),
            given("Path", Text),
            given("JSONFormat", Text),
            given("TextFormat", Text),
        ]),
    ),
    given("EnvoyExtensions", EXTENSIONS),
    given("FailoverPolicy", FAILOVER_POLICY),
    given("PrioritizeByLocality", LOCALITY),
    META,
];

const SERVICE_ROUTER: &[Field] = &[
    given(
        "Routes",
        List(&Object(&[
            given(
                "Match",
                Object(&[given(
                    "HTTP",
                    Object(&[
                        given("PathExact", Text),
                        given("PathPrefix", Text),
                        given("PathRegex", Text),
                        given("CaseInsensitive", Bool),
                        given("Header", List(&Object(HEADER_MATCH))),
                        given(
                            "QueryParam",
                            List(&Object(&[
                                always("Name", Text),
                                given("Present", Bool),
                                given("Exact", Text),
                                given("Regex", Text),
                            ])),
                        ),
                        given("Methods", TEXTS),
                    ]),
                )]),
            ),
            given(
                "Destination",
                Object(&[
                    given("Service", Text),
                    given("ServiceSubset", Text),
                    given("Namespace", Text),
                    given("Partition", Text),
                    given("PrefixRewrite", Text),
                    given("RequestTimeout", Duration),
                    given("IdleTimeout", Duration),
                    given("NumRetries", Int),
                    given("RetryOnConnectFailure", Bool),
                    given("RetryOnStatusCodes", List(&Int)),
                    given("RetryOn", TEXTS),
                    given("RequestHeaders", HEADERS),
                    given("ResponseHeaders", HEADERS),
                ]),
            ),
        ])),
    ),
    META,
];

const SERVICE_SPLITTER: &[Field] = &[
    given(
        "Splits",
        List(&Object(&[
            always("Weight", Float),
            given("Service", Text),
            given("ServiceSubset", Text),
            given("Namespace", Text),
            given("Partition", Text),
            given("RequestHeaders", HEADERS),
            given("ResponseHeaders", HEADERS),
        ])),
    ),
    META,
];

const FAILOVER: Shape = Object(&[
    given("Service", Text),
    given("ServiceSubset", Text),
    given("Namespace", Text),
    given("Datacenters", TEXTS),
    given(
        "Targets",
        List(&Object(&[
            given("Service", Text),
            given("ServiceSubset", Text),
            given("Partition", Text),
            given("Namespace", Text),
            given("Datacenter", Text),
            given("Peer", Text),
        ])),
    ),
    given("Policy", FAILOVER_POLICY),
    given("SamenessGroup", Text),
]);

const LOAD_BALANCER: Shape = Object(&[
    given("Policy", Text),
    given(
        "RingHashConfig",
        Object(&[given("MinimumRingSize", Int), given("MaximumRingSize", Int)]),
    ),
    given("LeastRequestConfig", Object(&[given("ChoiceCount", Int)])),
    given(
        "HashPolicies",
        List(&Object(&[
            given("Field", Text),
            given("FieldValue", Text),
            given(
                "CookieConfig",
                Object(&[
                    given("Session", Bool),
                    given("TTL", Nanos),
                    given("Path", Text),
                ]),
            ),
            given("SourceIP", Bool),
            given("Terminal", Bool),
        ])),
    ),
]);

const SERVICE_RESOLVER: &[Field] = &[
    given("DefaultSubset", Text),
    given(
        "Subsets",
        Map(&Object(&[
            given("Filter", Text),
            given("OnlyPassing", Bool),
        ])),
    ),
    given(
        "Redirect",
        Object(&[
            given("Service", Text),
            given("ServiceSubset", Text),
            given("Namespace", Text),
            given("Partition", Text),
            given("Datacenter", Text),
            given("Peer", Text),
            given("SamenessGroup", Text),
        ]),
    ),
    given("Failover", Map(&FAILOVER)),
    given("ConnectTimeout", Duration),
    given("RequestTimeout", Duration),
    given("PrioritizeByLocality", LOCALITY),
    given("LoadBalancer", LOAD_BALANCER),
    META,
];

const SERVICE_INTENTIONS: &[Field] = &[
    always(
        "Sources",
        List(&Object(&[
            always("Name", Text),
            given("Action", Text),
            given("Permissions", PERMISSIONS),
            always("Precedence", Int),
            given("LegacyID", Text),
            always("Type", Text),
            given("Description", Text),
            given("LegacyMeta", TextMap),
            given("LegacyCreateTime", Time),
            given("LegacyUpdateTime", Time),
            given("Partition", Text),
            given("Namespace", Text),
            given("Peer", Text),
            given("SamenessGroup", Text),
        ])),
    ),
    given("JWT", JWT),
    META,
];

const MESH: &[Field] = &[
    always(
        "TransparentProxy",
        Object(&[always("MeshDestinationsOnly", Bool)]),
    ),
    given("AllowEnablingPermissiveMutualTLS", Bool),
    given(
        "TLS",
        Object(&[given("Incoming", DIRECTION), given("Outgoing", DIRECTION)]),
    ),
    given(
        "HTTP",
        Object(&[
            always("SanitizeXForwardedClientCert", Bool),
            given("Incoming", Any),
        ]),
    ),
    given("Peering", Object(&[given("PeerThroughMeshGateways", Bool)])),
    META,
];

const EXPORTED_SERVICES: &[Field] = &[
    given(
        "Services",
        List(&Object(&[
            always("Name", Text),
            given("Namespace", Text),
            given(
                "Consumers",
                List(&Object(&[
                    given("Partition", Text),
                    alias("Peer", "peer_name", Text),
                    given("SamenessGroup", Text),
                ])),
            ),
        ])),
    ),
    META,
];

const REMOTE_KEYS: Shape = Object(&[
    given("URI", Text),
    given("RequestTimeoutMs", Int),
    given("CacheDuration", Nanos),
    given("FetchAsynchronously", Bool),
    given(
        "RetryPolicy",
        Object(&[
            given("NumRetries", Int),
            given(
                "RetryPolicyBackOff",
                Object(&[given("BaseInterval", Nanos), given("MaxInterval", Nanos)]),
            ),
        ]),
    ),
    given(
        "JWKSCluster",
        Object(&[
            given("DiscoveryType", Text),
            given(
                "TLSCertificates",
                Object(&[
                    given(
                        "CaCertificateProviderInstance",
                        Object(&[given("InstanceName", Text), given("CertificateName", Text)]),
                    ),
                    given(
                        "TrustedCA",
                        Object(&[
                            given("Filename", Text),
                            given("EnvironmentVariable", Text),
                            given("InlineString", Text),
                            given("InlineBytes", Text),
                        ]),
                    ),
                ]),
            ),
            given("ConnectTimeout", Nanos),
        ]),
    ),
]);

const NAMED: Shape = Object(&[given("Name", Text)]);

const JWT_PROVIDER: &[Field] = &[
    given(
        "JSONWebKeySet",
        Object(&[
            given(
                "Local",
                Object(&[given("JWKS", Text), given("Filename", Text)]),
            ),
            given("Remote", REMOTE_KEYS),
        ]),
    ),
    given("Issuer", Text),
    given("Audiences", TEXTS),
    given(
        "Locations",
        List(&Object(&[
            given(
                "Header",
                Object(&[
                    given("Name", Text),
                    given("ValuePrefix", Text),
                    given("Forward", Bool),
                ]),
            ),
            given("QueryParam", NAMED),
            given("Cookie", NAMED),
        ])),
    ),
    given(
        "Forwarding",
        Object(&[
            given("HeaderName", Text),
            given("PadForwardPayloadHeader", Bool),
        ]),
    ),
    given("ClockSkewSeconds", Int),
    given("CacheConfig", Object(&[given("Size", Int)])),
    META,
];

const REQUEST_LIMIT: &[Field] = &[
    always("Mode", Text),
    META,
    always("ReadRate", Float),
    always("WriteRate", Float),
    given("ACL", RATES),
    given("Catalog", RATES),
    given("ConfigEntry", RATES),
    given("ConnectCA", RATES),
    given("Coordinate", RATES),
    given("DiscoveryChain", RATES),
    given("ServerDiscovery", RATES),
    given("Health", RATES),
    given("Intention", RATES),
    given("KV", RATES),
    given("Tenancy", RATES),
    given("PreparedQuery", RATES),
    given("Session", RATES),
    given("Txn", RATES),
    given("AutoConfig", RATES),
    given("FederationState", RATES),
    given("Internal", RATES),
    given("PeerStream", RATES),
    given("Peering", RATES),
    given("DataPlane", RATES),
    given("DNS", RATES),
    given("Subscribe", RATES),
    given("Resource", RATES),
];
