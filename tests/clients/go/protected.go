package main

import "github.com/hashicorp/consul/api"

// protected is given an agent that asks for tokens and for certificates, a token, the file of the authority that it
// trusts, and the files of a certificate and its key.
func protected(rest []string) bool {
	if len(rest) != 5 {
		return try("arguments", func() { fail("wanted: ADDRESS TOKEN CA CERTIFICATE KEY") })
	}
	address, token := rest[0], rest[1]
	files := api.TLSConfig{CAFile: rest[2], CertFile: rest[3], KeyFile: rest[4]}
	secure := func(token string, files api.TLSConfig) *api.Client {
		return one(api.NewClient(&api.Config{Address: address, Scheme: "https", Token: token, TLSConfig: files}))
	}
	well := try("what is refused", func() {
		get := func(token string, files api.TLSConfig) error {
			_, _, err := secure(token, files).KV().Get("go/a", nil)
			return err
		}
		has("a read without a token", get("", files), "Permission denied: anonymous token lacks permission 'key:read'")
		has("a wrong token", get("wrong", files), "403 (ACL not found)")
		has("an unknown authority", get(token, api.TLSConfig{CertFile: rest[3], KeyFile: rest[4]}), "certificate signed by unknown authority")
		refused("a client without a certificate", get(token, api.TLSConfig{CAFile: rest[2]}))
	})
	client := secure(token, files)
	for _, part := range []part{
		{"kv", kv}, {"txn", txn}, {"sessions", sessions}, {"health", health}, {"blocking", blocking}, {"status", status},
		{"the token itself", func(client *api.Client) {
			self := read(client.ACL().TokenReadSelf(nil))
			want("its secret", self.SecretID, token)
		}},
	} {
		well = try(part.name, func() { part.run(client) }) && well
	}
	return well
}
