// Package cni is the container network interface, version 1: what a runtime says to a
// plugin, and the plugin itself, a program that passes that on to the node's agent.
//
// The program is called strata-cni by the runtime, with a verb and the container in its
// environment and the network's configuration as input. It knows the socket of the agent
// from the configuration, and prints the agent's answer. So all state is the agent's.
//
// Source: CNI specification 1.1.0 (containernetworking/cni, SPEC.md).
package cni

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"
)

// Program is the name by which the plugin is called.
const Program = "strata-cni"

// Version is the newest version of the interface that is spoken.
const Version = "1.1.0"

var versions = []string{"1.0.0", Version}

// Config is what a network's configuration says to this plugin.
type Config struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	Socket     string `json:"socket"` // of the agent
	// RuntimeConfig is what the runtime adds for capabilities.
	RuntimeConfig struct {
		PortMappings []PortMapping `json:"portMappings,omitempty"`
	} `json:"runtimeConfig"`
	Capabilities map[string]bool `json:"capabilities,omitempty"`
	// Valid are the attachments that there are, for GC.
	Valid []Attachment `json:"cni.dev/valid-attachments,omitempty"`
}

// PortMapping has a port of the host lead to the container.
type PortMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// Attachment is a device of a container.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// Request is a call of the plugin.
type Request struct {
	Command string `json:"command"`
	Attachment
	Netns  string          `json:"netns"`
	Args   string          `json:"args"`
	Config json.RawMessage `json:"config"`
}

// Error is one in the words of the interface.
type Error struct {
	CNIVersion string `json:"cniVersion,omitempty"`
	Code       int    `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return e.Msg }

// Codes of errors.
const (
	CodeVersion     = 1
	CodeEnvironment = 4
	CodeIO          = 5
	CodeDecode      = 6
	CodeConfig      = 7
	CodeLater       = 11
	CodeUnavailable = 50 // STATUS: ADD would fail
	CodeInternal    = 999
)

// Answer is the agent's to a Request.
type Answer struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

// Result is what ADD gives.
type Result struct {
	CNIVersion string      `json:"cniVersion"`
	Interfaces []Interface `json:"interfaces"`
	IPs        []IP        `json:"ips"`
	Routes     []Route     `json:"routes"`
	DNS        struct{}    `json:"dns"`
}

// Interface is a device; one without a sandbox is the host's.
type Interface struct {
	Name    string `json:"name"`
	MAC     string `json:"mac,omitempty"`
	MTU     int    `json:"mtu,omitempty"`
	Sandbox string `json:"sandbox,omitempty"`
}

// IP is an address of a device, by its place among the interfaces.
type IP struct {
	Interface int    `json:"interface"`
	Address   string `json:"address"`
	Gateway   string `json:"gateway,omitempty"`
}

// Route is one in the container.
type Route struct {
	Dst string `json:"dst"`
	GW  string `json:"gw,omitempty"`
}

// patience bounds a call; kubelet's own limit for a sandbox is longer.
const patience = 90 * time.Second

// maxConfig bounds what is read of a configuration, and of an answer.
const maxConfig = 4 << 20

// Main is the plugin; it gives the exit code.
func Main(env func(string) string, in io.Reader, out io.Writer) int {
	raw, err := call(env, in)
	if err != nil {
		e, ok := err.(*Error)
		if !ok {
			e = &Error{Code: CodeIO, Msg: err.Error()}
		}
		if e.CNIVersion == "" {
			e.CNIVersion = Version
		}
		raw, _ = json.Marshal(e) // always does
	}
	if len(raw) > 0 {
		if _, werr := fmt.Fprintf(out, "%s\n", raw); werr != nil {
			return 1
		}
	}
	if err != nil {
		return 1
	}
	return 0
}

func call(env func(string) string, in io.Reader) ([]byte, error) {
	r := Request{Command: env("CNI_COMMAND"), Attachment: Attachment{env("CNI_CONTAINERID"), env("CNI_IFNAME")}, Netns: env("CNI_NETNS"), Args: env("CNI_ARGS")}
	if r.Command == "" {
		return nil, &Error{Code: CodeEnvironment, Msg: "CNI_COMMAND is not set: a container runtime calls this program"}
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxConfig))
	if err != nil {
		return nil, err
	}
	var conf Config
	if err := json.Unmarshal(raw, &conf); err != nil {
		return nil, &Error{Code: CodeDecode, Msg: "the configuration is no JSON", Details: err.Error()}
	}
	if r.Command == "VERSION" {
		return json.Marshal(map[string]any{"cniVersion": conf.CNIVersion, "supportedVersions": versions})
	}
	if !filepath.IsAbs(conf.Socket) {
		return nil, &Error{Code: CodeConfig, Msg: "the configuration names no socket of the node's agent"}
	}
	r.Config = raw
	return ask(conf.Socket, &r)
}

// ask passes a request on to the agent.
func ask(socket string, r *Request) ([]byte, error) {
	c, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		code := CodeLater
		if r.Command == "STATUS" {
			code = CodeUnavailable
		}
		return nil, &Error{Code: code, Msg: "the node's agent does not answer", Details: err.Error()}
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if err := json.NewEncoder(c).Encode(r); err != nil {
		return nil, err
	}
	var a Answer
	if err := json.NewDecoder(io.LimitReader(c, maxConfig)).Decode(&a); err != nil {
		return nil, &Error{Code: CodeLater, Msg: "the node's agent has gone away", Details: err.Error()}
	}
	if a.Error != nil {
		return nil, a.Error
	}
	return a.Result, nil
}
