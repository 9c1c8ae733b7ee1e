package docker

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/strata-cloud/strata/internal/errs"
)

func readRequest(t *testing.T, text string) *container.CreateRequest {
	t.Helper()
	var req container.CreateRequest
	if err := json.Unmarshal([]byte(text), &req); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return &req
}

// TestRefusals has every option that reaches the node, in the words of a client.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		host string // of HostConfig
		kind errs.Kind
	}{
		{`"Privileged":true`, errs.Forbidden},
		{`"Devices":[{"PathOnHost":"/dev/kmsg"}]`, errs.Forbidden},
		{`"DeviceRequests":[{"Count":-1}]`, errs.Forbidden},
		{`"DeviceCgroupRules":["c 1:1 rwm"]`, errs.Forbidden},
		{`"PortBindings":{"80/tcp":[{"HostPort":"80"}]}`, errs.Forbidden},
		{`"PublishAllPorts":true`, errs.Forbidden},
		{`"NetworkMode":"host"`, errs.Forbidden},
		{`"NetworkMode":"container:other"`, errs.Forbidden},
		{`"PidMode":"host"`, errs.Forbidden},
		{`"PidMode":"container:other"`, errs.Forbidden},
		{`"IpcMode":"host"`, errs.Forbidden},
		{`"IpcMode":"container:other"`, errs.Forbidden},
		{`"UTSMode":"host"`, errs.Forbidden},
		{`"UsernsMode":"host"`, errs.Forbidden},
		{`"CgroupnsMode":"host"`, errs.Forbidden},
		{`"CgroupParent":"/"`, errs.Forbidden},
		{`"Binds":["/:/host"]`, errs.Forbidden},
		{`"Binds":["./here:/there"]`, errs.Forbidden},
		{`"Binds":["/var/run/docker.sock:/var/run/docker.sock:ro"]`, errs.Forbidden},
		{`"Binds":["data:/data:rshared"]`, errs.Forbidden},
		{`"Binds":["ok:/ok","../up:/data"]`, errs.Forbidden},
		{`"Mounts":[{"Type":"bind","Source":"/","Target":"/host"}]`, errs.Forbidden},
		{`"Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"type":"none","o":"bind","device":"/"}}}}]`, errs.Forbidden},
		{`"Mounts":[{"Type":"volume","Source":"data","Target":"/x"},{"Type":"volume","Source":"/etc","Target":"/y"}]`, errs.Forbidden},
		{`"Mounts":[{"Type":"volume","Source":"data","Target":"/x","VolumeOptions":{"Subpath":"a"}}]`, errs.Forbidden},
		{`"Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"o":"bind"}}}}]`, errs.Forbidden},
		{`"Tmpfs":{"/x":"size=1m,rbind"}`, errs.Forbidden},
		{`"VolumesFrom":["other"]`, errs.Forbidden},
		{`"VolumeDriver":"local"`, errs.Forbidden},
		{`"Links":["other:o"]`, errs.Forbidden},
		{`"CapAdd":["SYS_ADMIN"]`, errs.Forbidden},
		{`"CapAdd":["all"]`, errs.Forbidden},
		{`"SecurityOpt":["seccomp=unconfined"]`, errs.Forbidden},
		{`"SecurityOpt":["apparmor:unconfined"]`, errs.Forbidden},
		{`"MaskedPaths":[]`, errs.Forbidden},
		{`"Ulimits":[{"Name":"nofile","Hard":1024,"Soft":1024},{"Name":"rtprio","Hard":99,"Soft":99}]`, errs.Forbidden},
		{`"Ulimits":[{"Name":"nice","Hard":40,"Soft":40}]`, errs.Forbidden},
		{`"ReadonlyPaths":[]`, errs.Forbidden},
		{`"Sysctls":{"kernel.core_pattern":"|/bin/sh"}`, errs.Forbidden},
		{`"OomScoreAdj":-1000`, errs.Forbidden},
		{`"OomKillDisable":true`, errs.Forbidden},
		{`"Runtime":"other"`, errs.Forbidden},
		{`"StorageOpt":{"size":"1T"}`, errs.Forbidden},
		{`"Annotations":{"a":"b"}`, errs.Forbidden},
		{`"ExtraHosts":["me:host-gateway"]`, errs.Forbidden},
		{`"CpuShares":262144`, errs.Forbidden},
		{`"CpuQuota":1000000`, errs.Forbidden},
		{`"CpusetCpus":"0"`, errs.Forbidden},
		{`"BlkioWeight":1000`, errs.Forbidden},
		{`"MemorySwap":-1`, errs.Forbidden},
		{`"PidsLimit":100000`, errs.Forbidden},
		{`"LogConfig":{"Type":"syslog"}`, errs.Forbidden},
		{`"LogConfig":{"Type":"local","Config":{"max-size":"10g"}}`, errs.Forbidden},
		{`"LogConfig":{"Type":"local","Config":{"max-file":"1000"}}`, errs.Forbidden},
		{`"Memory":-1`, errs.Invalid},
	} {
		err := judge(readRequest(t, `{"Image":"x","HostConfig":{`+c.host+`}}`))
		if errs.KindOf(err) != c.kind || err == nil {
			t.Errorf("%s: %v, want kind %d", c.host, err, c.kind)
		}
	}
}

func TestAccepted(t *testing.T) {
	for _, host := range []string{``, `"AutoRemove":true`, `"CapDrop":["ALL"],"CapAdd":["CAP_NET_BIND_SERVICE"]`, `"SecurityOpt":["no-new-privileges"]`, `"Tmpfs":{"/tmp":"size=10m,exec","/run":""}`,
		`"Mounts":[{"Type":"tmpfs","Target":"/x"},{"Type":"volume","Target":"/y"}]`, `"RestartPolicy":{"Name":"always"}`, `"ReadonlyRootfs":true`, `"PortBindings":{"80/tcp":[]}`,
		`"LogConfig":{"Type":"json-file","Config":{"max-size":"10m","max-file":"3"}}`, `"Sysctls":{"net.ipv4.ip_unprivileged_port_start":"0"}`, `"PidsLimit":-1`} {
		req := readRequest(t, `{"Image":"x","HostConfig":{`+host+`}}`)
		if err := judge(req); err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		h := req.HostConfig
		if cpus, mib := need(h); cpus != 1 || mib != 512 || !h.CgroupnsMode.IsPrivate() || *h.PidsLimit != maxPids {
			t.Errorf("%s: %d processors, %d MiB, %+v", host, cpus, mib, h)
		}
	}
	if cpus, mib := need(readRequest(t, `{"HostConfig":{"NanoCpus":1500000000,"Memory":104857601}}`).HostConfig); cpus != 2 || mib != 101 {
		t.Errorf("one and a half processors and a byte more than 100 MiB are counted as %d and %d", cpus, mib)
	}
}

func TestWishes(t *testing.T) {
	for _, c := range []struct {
		text, want string // refs, or the error's word
		auto       bool
	}{
		{`{}`, "", true},
		{`{"HostConfig":{"NetworkMode":"default"}}`, "", true},
		{`{"HostConfig":{"NetworkMode":"none"}}`, "", false},
		{`{"HostConfig":{"NetworkMode":"a"},"NetworkingConfig":{"EndpointsConfig":{"c":{},"a":null,"b":null}}}`, "a b c", false},
		{`{"HostConfig":{"NetworkMode":"a"},"NetworkingConfig":{"EndpointsConfig":{"a":{"Aliases":["x","db_1"]}}}}`, "a", false},
		{`{"HostConfig":{"NetworkMode":"a"},"NetworkingConfig":{"EndpointsConfig":{"a":{"MacAddress":"02:00:00:00:00:01"}}}}`, "MAC", false},
		{`{"HostConfig":{"NetworkMode":"a"},"NetworkingConfig":{"EndpointsConfig":{"a":{"DriverOpts":{"x":"y"}}}}}`, "unknown option", false},
	} {
		req := readRequest(t, c.text)
		if req.HostConfig == nil {
			req.HostConfig = &container.HostConfig{}
		}
		list, auto, err := wishes(req)
		var refs []string
		for _, w := range list {
			refs = append(refs, w.ref)
		}
		if err != nil {
			if c.want == "" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.text, err)
			}
			continue
		}
		if got := strings.Join(refs, " "); got != c.want || auto != c.auto {
			t.Errorf("%s: %q, %t", c.text, got, auto)
		}
	}
	req := readRequest(t, `{"HostConfig":{"NetworkMode":"a"},"NetworkingConfig":{"EndpointsConfig":{"a":{"IPAMConfig":{"IPv4Address":"10.0.0.9"},"DriverOpts":{"security-groups":"web,db"}}}}}`)
	if list, _, err := wishes(req); err != nil || len(list) != 1 || list[0].fixedIP != "10.0.0.9" || strings.Join(list[0].groups, " ") != "web db" {
		t.Errorf("%+v, %v", list, err)
	}
}
