package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
)

// The certificate authority of the mesh: roots, a service's certificate that verifies, and who may connect.
func connect(client *api.Client) error {
	roots, _, err := client.Connect().CARoots(nil)
	if err != nil {
		return err
	}
	own, meta, err := client.Agent().ConnectCARoots(nil)
	if err != nil {
		return err
	}
	want("the active root", own.ActiveRootID, roots.ActiveRootID)
	if meta.LastIndex == 0 || roots.TrustDomain == "" {
		return fmt.Errorf("index %d, trust domain %q", meta.LastIndex, roots.TrustDomain)
	}
	trusted := x509.NewCertPool()
	for _, root := range roots.Roots {
		if !trusted.AppendCertsFromPEM([]byte(root.RootCertPEM)) {
			return fmt.Errorf("root %s cannot be read", root.ID)
		}
	}
	leaf, meta, err := client.Agent().ConnectCALeaf("go-web", nil)
	if err != nil {
		return err
	}
	want("the index", meta.LastIndex, leaf.ModifyIndex)
	if err := verified(leaf, trusted); err != nil {
		return err
	}
	again, _, err := client.Agent().ConnectCALeaf("go-web", &api.QueryOptions{WaitIndex: leaf.ModifyIndex, WaitTime: time.Millisecond})
	if err != nil {
		return err
	}
	want("the certificate after waiting for another", again.SerialNumber, leaf.SerialNumber)
	config, _, err := client.Connect().CAGetConfig(nil)
	if err != nil {
		return err
	}
	settings, err := api.ParseConsulCAConfig(config.Config)
	if err != nil {
		return err
	}
	want("the provider", config.Provider, "consul")
	want("the lifetime of certificates", settings.LeafCertTTL, 72*time.Hour)
	if _, err := client.Connect().CASetConfig(config, nil); err != nil {
		return err
	}
	after, _, err := client.Connect().CARoots(nil)
	if err != nil {
		return err
	}
	want("the root after the same configuration", after.ActiveRootID, roots.ActiveRootID)
	return authorized(client, leaf.ServiceURI)
}

// Whether a certificate belongs to its key and leads to a root, for both sides of a connection.
func verified(leaf *api.LeafCert, trusted *x509.CertPool) error {
	if _, err := tls.X509KeyPair([]byte(leaf.CertPEM), []byte(leaf.PrivateKeyPEM)); err != nil {
		return err
	}
	block, rest := pem.Decode([]byte(leaf.CertPEM))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	between.AppendCertsFromPEM(rest)
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		options := x509.VerifyOptions{Roots: trusted, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}}
		if _, err := cert.Verify(options); err != nil {
			return err
		}
	}
	want("the number of names", len(cert.URIs), 1)
	want("the end", cert.NotAfter.UTC(), leaf.ValidBefore.UTC())
	want("the name", cert.URIs[0].String(), leaf.ServiceURI)
	return nil
}

func authorized(client *api.Client, uri string) error {
	params := &api.AgentAuthorizeParams{Target: "go-db", ClientCertURI: uri, ClientCertSerial: "1"}
	answer, err := client.Agent().ConnectAuthorize(params)
	if err != nil {
		return err
	}
	want("what is allowed without an intention", answer.Authorized, true)
	intention := &api.Intention{
		SourceName: "go-web", DestinationName: "go-db", SourceType: api.IntentionSourceConsul, Action: api.IntentionActionDeny,
	}
	if _, err := client.Connect().IntentionUpsert(intention, nil); err != nil {
		return err
	}
	defer client.Connect().IntentionDeleteExact("go-web", "go-db", nil)
	if answer, err = client.Agent().ConnectAuthorize(params); err != nil {
		return err
	}
	want("what is allowed against an intention", answer.Authorized, false)
	return nil
}
