package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

const ownSecret = "0f0e0d0c-0b0a-4908-8706-050403020100"

// acl runs everything about tokens, from the first one on. Nobody has used the agent before.
func acl(address string) {
	nobody := dial(address)
	_, err := nobody.KV().Put(&api.KVPair{Key: "a", Value: []byte("1")}, nil)
	has("a write without a token", err, "Permission denied: anonymous token lacks permission 'key:write' on \"a\"")
	status := read(nobody.ACL().Replication(nil))
	want("replication", status.Enabled, false)
	first := read(nobody.ACL().BootstrapWithToken(ownSecret))
	want("the first secret", first.SecretID, ownSecret)
	want("its policy", first.Policies[0].Name, "global-management")
	has("another bootstrap", third(nobody.ACL().Bootstrap()), "Permission denied: ACL bootstrap no longer allowed (reset index: ")
	client := one(api.NewClient(&api.Config{Address: address, Token: ownSecret}))
	want("the token itself", read(client.ACL().TokenReadSelf(nil)).AccessorID, first.AccessorID)
	policy := policies(client.ACL())
	role := roles(client.ACL(), policy)
	tokens(address, client.ACL(), policy, role)
	methodsAndRules(client.ACL())
	logins(address, client.ACL())
	templates(client.ACL())
	check(second(client.ACL().RoleDelete(role.ID, nil)))
	check(second(client.ACL().PolicyDelete(policy.ID, nil)))
	has("a policy that is gone", third(client.ACL().PolicyRead(policy.ID, nil)), "Requested policy does not exist: ACL not found")
}

func policies(acls *api.ACL) *api.ACLPolicy {
	rules := `key_prefix "team/" { policy = "write" }`
	policy := read(acls.PolicyCreate(&api.ACLPolicy{Name: "team", Description: "of the team", Rules: rules}, nil))
	want("its rules", policy.Rules, rules)
	policy.Description = "changed"
	want("the description", read(acls.PolicyUpdate(policy, nil)).Description, "changed")
	found, meta, err := acls.PolicyRead(policy.ID, nil)
	check(err)
	want("the index", meta.LastIndex, found.ModifyIndex)
	want("by its name", read(acls.PolicyReadByName("team", nil)).ID, policy.ID)
	want("policies", len(read(acls.PolicyList(nil))), 3)
	_, _, err = acls.PolicyCreate(&api.ACLPolicy{Name: "wrong", Rules: `key "a" { policy = "wrte" }`}, nil)
	has("a wrong policy", err, "Invalid key policy")
	_, _, err = acls.PolicyCreate(&api.ACLPolicy{Name: "team"}, nil)
	has("a name that is taken", err, `Invalid Policy: A Policy with Name "team" already exists`)
	return policy
}

func roles(acls *api.ACL, policy *api.ACLPolicy) *api.ACLRole {
	role := read(acls.RoleCreate(&api.ACLRole{
		Name: "dev", Policies: []*api.ACLRolePolicyLink{{Name: "team"}},
		ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: "web", Datacenters: []string{"dc1"}}},
	}, nil))
	want("its policy", role.Policies[0].ID, policy.ID)
	role.Description = "changed"
	want("the description", read(acls.RoleUpdate(role, nil)).Description, "changed")
	want("by its id", read(acls.RoleRead(role.ID, nil)).Name, "dev")
	want("by its name", read(acls.RoleReadByName("dev", nil)).ID, role.ID)
	want("roles", len(read(acls.RoleList(nil))), 1)
	return role
}

func tokens(address string, acls *api.ACL, policy *api.ACLPolicy, role *api.ACLRole) {
	token := read(acls.TokenCreate(&api.ACLToken{Description: "of the team", Roles: []*api.ACLTokenRoleLink{{Name: "dev"}}}, nil))
	holder := one(api.NewClient(&api.Config{Address: address, Token: token.SecretID}))
	check(second(holder.KV().Put(&api.KVPair{Key: "team/a", Value: []byte("1")}, nil)))
	_, err := holder.KV().Put(&api.KVPair{Key: "other", Value: []byte("1")}, nil)
	has("a key of others", err, "token with AccessorID '"+token.AccessorID+"' lacks permission 'key:write' on \"other\"")
	check(holder.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "web"}))
	has("a service of others", holder.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "db"}), "lacks permission 'service:write' on \"db\"")
	services, meta, err := holder.Catalog().Nodes(nil)
	check(err)
	want("nodes that it sees", len(services) > 0, true)
	want("what is left out", meta.ResultsFilteredByACLs, false)

	token.Description = "changed"
	want("the description", read(acls.TokenUpdate(token, nil)).Description, "changed")
	want("the token", read(acls.TokenRead(token.AccessorID, nil)).SecretID, token.SecretID)
	expanded := read(acls.TokenReadExpanded(token.AccessorID, nil))
	want("its roles", expanded.ExpandedRoles[0].Name, role.Name)
	want("their policies", expanded.ExpandedPolicies[0].Name, policy.Name)
	twin := read(acls.TokenClone(token.AccessorID, "twin", nil))
	want("the twin", twin.Roles[0].ID, role.ID)
	want("tokens", len(read(acls.TokenList(nil))), 4)
	filtered := read(acls.TokenListFiltered(api.ACLTokenFilterOptions{Role: role.ID}, nil))
	want("tokens of the role", len(filtered), 2)
	check(second(acls.TokenDelete(twin.AccessorID, nil)))
	_, err = one(api.NewClient(&api.Config{Address: address, Token: twin.SecretID})).Catalog().Datacenters()
	check(err)
	_, _, err = one(api.NewClient(&api.Config{Address: address, Token: twin.SecretID})).KV().Get("a", nil)
	has("a token that is gone", err, "ACL not found")
	check(holder.Agent().ServiceDeregister("web"))
	check(second(acls.TokenDelete(token.AccessorID, nil)))
}

func methodsAndRules(acls *api.ACL) {
	method := read(acls.AuthMethodCreate(&api.ACLAuthMethod{
		Name: "ci", Type: "jwt", Config: map[string]interface{}{"JWKSURL": "https://127.0.0.1:1/keys"},
	}, nil))
	method.Description = "changed"
	want("the description", read(acls.AuthMethodUpdate(method, nil)).Description, "changed")
	want("its settings", read(acls.AuthMethodRead("ci", nil)).Config["JWKSURL"], "https://127.0.0.1:1/keys")
	want("methods", len(read(acls.AuthMethodList(nil))), 1)
	rule := read(acls.BindingRuleCreate(&api.ACLBindingRule{
		AuthMethod: "ci", BindType: api.BindingRuleBindTypeRole, BindName: "dev", Selector: `value.team == "web"`,
	}, nil))
	rule.Description = "changed"
	want("the description", read(acls.BindingRuleUpdate(rule, nil)).Description, "changed")
	want("its name", read(acls.BindingRuleRead(rule.ID, nil)).BindName, "dev")
	want("rules", len(read(acls.BindingRuleList("ci", nil))), 1)
	check(second(acls.BindingRuleDelete(rule.ID, nil)))
	check(second(acls.AuthMethodDelete("ci", nil)))
}

func templates(acls *api.ACL) {
	want("a template", read(acls.TemplatedPolicyReadByName("builtin/service", nil)).TemplateName, "builtin/service")
	all := read(acls.TemplatedPolicyList(nil))
	want("templates", all["builtin/dns"].TemplateName, "builtin/dns")
	shown := read(acls.TemplatedPolicyPreview(&api.ACLTemplatedPolicy{
		TemplateName: "builtin/service", TemplateVariables: &api.ACLTemplatedPolicyVariables{Name: "web"},
	}, nil))
	want("its rules", strings.Contains(shown.Rules, `service "web-sidecar-proxy"`), true)
}

// signed makes a bearer token of claims.
func signed(key *ecdsa.PrivateKey, claims map[string]any) string {
	encode := base64.RawURLEncoding.EncodeToString
	message := encode([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + encode(one(json.Marshal(claims)))
	digest := sha256.Sum256([]byte(message))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	check(err)
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return message + "." + encode(signature)
}

func logins(address string, acls *api.ACL) {
	key := one(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: one(x509.MarshalPKIXPublicKey(&key.PublicKey))})
	read(acls.AuthMethodCreate(&api.ACLAuthMethod{
		Name: "ci", Type: "jwt", MaxTokenTTL: time.Hour, TokenLocality: "local",
		Config: map[string]interface{}{
			"JWTValidationPubKeys": []string{string(public)}, "JWTSupportedAlgs": []string{"ES256"},
			"ClaimMappings": map[string]string{"team": "team"}, "ExpirationLeeway": 5 * time.Second,
		},
	}, nil))
	read(acls.BindingRuleCreate(&api.ACLBindingRule{
		AuthMethod: "ci", BindType: api.BindingRuleBindTypeService, BindName: "${value.team}", Selector: `value.team != "nobody"`,
	}, nil))
	nobody := dial(address).ACL()
	login := func(claims map[string]any) (*api.ACLToken, *api.WriteMeta, error) {
		return nobody.Login(&api.ACLLoginParams{
			AuthMethod: "ci", BearerToken: signed(key, claims), Meta: map[string]string{"pod": "a"},
		}, nil)
	}
	now := time.Now().Unix()
	token := read(login(map[string]any{"team": "web", "iat": now, "exp": now + 60}))
	want("its service", token.ServiceIdentities[0].ServiceName, "web")
	want("its method", token.AuthMethod, "ci")
	want("whether it is local", token.Local, true)
	want("its end", token.ExpirationTime.Sub(token.CreateTime), time.Hour)
	want("its description", token.Description, `token created via login: {"pod":"a"}`)
	holder := one(api.NewClient(&api.Config{Address: address, Token: token.SecretID}))
	check(holder.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "web"}))
	check(holder.Agent().ServiceDeregister("web"))
	has("one that is over", third(login(map[string]any{"team": "web", "exp": now - 3600})), "it expired 36")
	has("one that is bound to nothing", third(login(map[string]any{"team": "nobody", "iat": now})), "403 (Permission denied)")
	check(second(holder.ACL().Logout(nil)))
	has("the token after that", third(holder.ACL().TokenReadSelf(nil)), "ACL not found")
	_, err := acls.Logout(nil)
	has("a token of no login", err, "Permission denied: token wasn't created via login")
	check(second(acls.AuthMethodDelete("ci", nil)))
}
