package app

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// Kinds of the objects of applications.
var (
	replicaSets = kubeapi.Kind{APIVersion: "apps/v1", Kind: "ReplicaSet", Plural: "replicasets"}
	secrets     = kubeapi.Kind{APIVersion: "v1", Kind: "Secret", Plural: "secrets"}
)

// Labels of all objects of applications.
const (
	labelPartOf    = "app.kubernetes.io/part-of"
	labelName      = "app.kubernetes.io/name"
	labelManagedBy = "app.kubernetes.io/managed-by"
	// Manager is the field manager, and the value of the label managed-by.
	Manager = "strata-app"
)

// object is one that the cluster shall have.
type object struct {
	kind kubeapi.Kind
	name string
	body map[string]any
}

// objects are those of an application, in the order in which they are applied.
func (a *App) objects() []object {
	out := []object{a.object(kubeapi.Namespaces, a.Name, "", nil)}
	seen := map[string]bool{}
	for _, s := range a.Services {
		for _, m := range s.Mounts {
			if !m.Scratch && !seen["v/"+m.Volume] {
				seen["v/"+m.Volume] = true
				out = append(out, a.object(kubeapi.Claims, volumeName(m.Volume), "", map[string]any{
					"accessModes": []string{"ReadWriteOnce"}, "resources": map[string]any{"requests": map[string]any{"storage": m.Size}}}))
			}
		}
		for _, f := range s.Files {
			if !seen["f/"+f.Object] {
				seen["f/"+f.Object] = true
				out = append(out, a.fileObject(f))
			}
		}
	}
	for _, s := range a.Services {
		out = append(out, a.servicesOf(s)...)
		out = append(out, a.deployment(s))
	}
	return out
}

// object is one with the application's labels; service "" is of none.
func (a *App) object(k kubeapi.Kind, name, service string, spec map[string]any) object {
	meta := map[string]any{"name": name, "labels": a.labels(service)}
	if !k.Clusterly {
		meta["namespace"] = a.Name
	}
	body := map[string]any{"apiVersion": k.APIVersion, "kind": k.Kind, "metadata": meta}
	if spec != nil {
		body["spec"] = spec
	}
	return object{k, name, body}
}

func (a *App) labels(service string) map[string]any {
	l := map[string]any{labelPartOf: a.Name, labelManagedBy: Manager}
	if service != "" {
		l[labelName] = service
	}
	return l
}

// volumeName is a volume's name as the cluster has it.
func volumeName(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "-")) }

const fileKey = "content"

func (a *App) fileObject(f File) object {
	k := kubeapi.ConfigMaps
	if f.Secret {
		k = secrets
	}
	o := a.object(k, f.Object, "", nil)
	data := base64.StdEncoding.EncodeToString(f.Content)
	if f.Secret {
		o.body["data"] = map[string]any{fileKey: data}
	} else {
		o.body["binaryData"] = map[string]any{fileKey: data}
	}
	return o
}

// servicesOf are the Service within the application, and one with an address outside.
func (a *App) servicesOf(s Service) []object {
	var in, out []any
	for _, p := range s.Ports {
		name := fmt.Sprintf("%s-%d", strings.ToLower(p.Protocol), p.Target)
		in = append(in, map[string]any{"name": name, "port": p.Target, "targetPort": p.Target, "protocol": p.Protocol})
		if p.Public > 0 {
			out = append(out, map[string]any{"name": fmt.Sprintf("%s-%d", strings.ToLower(p.Protocol), p.Public), "port": p.Public, "targetPort": p.Target, "protocol": p.Protocol})
		}
	}
	selector := map[string]any{labelPartOf: a.Name, labelName: s.Name}
	spec := map[string]any{"selector": selector, "ports": in}
	if len(in) == 0 { // its name leads to its copies all the same, as compose has it
		spec = map[string]any{"selector": selector, "clusterIP": "None"}
	}
	list := []object{a.object(kubeapi.Services, s.Name, s.Name, spec)}
	if len(out) > 0 {
		list = append(list, a.object(kubeapi.Services, s.Name+"-public", s.Name, map[string]any{"selector": selector, "ports": out, "type": "LoadBalancer"}))
	}
	if len(s.Hosts) > 0 {
		list = append(list, a.ingress(s))
	}
	return list
}

// ingress leads requests for its hosts to a service.
func (a *App) ingress(s Service) object {
	var rules []any
	for _, h := range s.Hosts {
		rules = append(rules, map[string]any{"host": h, "http": map[string]any{"paths": []any{map[string]any{"path": "/", "pathType": "Prefix",
			"backend": map[string]any{"service": map[string]any{"name": s.Name, "port": map[string]any{"number": s.web()}}}}}}})
	}
	return a.object(kubeapi.Ingresses, s.Name, s.Name, map[string]any{"rules": rules})
}

func (a *App) deployment(s Service) object {
	labels := a.labels(s.Name)
	volumes, mounts := s.podVolumes()
	container := map[string]any{"name": s.Name, "image": s.Image, "env": s.env(), "volumeMounts": mounts, "resources": s.requests(), "securityContext": s.security()}
	for k, v := range map[string][]string{"command": s.Command, "args": s.Args} {
		if len(v) > 0 {
			container[k] = v
		}
	}
	if s.WorkingDir != "" {
		container["workingDir"] = s.WorkingDir
	}
	for _, p := range s.Ports {
		list, _ := container["ports"].([]any)
		container["ports"] = append(list, map[string]any{"containerPort": p.Target, "protocol": p.Protocol})
	}
	if s.Health != nil {
		container["readinessProbe"] = s.Health.probe()
	}
	pod := map[string]any{"containers": []any{container}, "volumes": volumes, "automountServiceAccountToken": false, "enableServiceLinks": false}
	if s.StopGrace > 0 {
		pod["terminationGracePeriodSeconds"] = int(s.StopGrace.Seconds())
	}
	spec := map[string]any{"selector": map[string]any{"matchLabels": map[string]any{labelPartOf: a.Name, labelName: s.Name}},
		"template": map[string]any{"metadata": map[string]any{"labels": labels, "annotations": s.filesDigest()}, "spec": pod}, "strategy": s.strategy()}
	if s.Replicas != nil {
		spec["replicas"] = *s.Replicas
	}
	return a.object(kubeapi.Deployments, s.Name, s.Name, spec)
}

// strategy lets new copies begin before old ones end, except where both would have the
// same volume, which one node has at a time.
func (s *Service) strategy() map[string]any {
	if slices.ContainsFunc(s.Mounts, func(m Mount) bool { return !m.Scratch }) {
		return map[string]any{"type": "Recreate", "rollingUpdate": nil}
	}
	return map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxUnavailable": 0, "maxSurge": 1}}
}

func (s *Service) env() []any {
	out := []any{}
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		out = append(out, map[string]any{"name": k, "value": s.Env[k]})
	}
	return out
}

func (s *Service) security() map[string]any {
	out := map[string]any{"readOnlyRootFilesystem": s.ReadOnly}
	if s.User != nil {
		out["runAsUser"] = *s.User
	}
	caps := map[string]any{}
	for k, v := range map[string][]string{"add": s.Capabilities, "drop": s.CapabilitiesOff} {
		if len(v) > 0 {
			caps[k] = v
		}
	}
	if len(caps) > 0 {
		out["capabilities"] = caps
	}
	return out
}

// requests are what the container is given at least and at most.
func (s *Service) requests() map[string]any {
	out := map[string]any{}
	for k, v := range map[string]struct {
		cpu    float64
		memory int64
	}{"limits": {s.CPULimit, s.MemoryLimit}, "requests": {s.CPUReserved, s.MemoryReserved}} {
		q := map[string]any{}
		if v.cpu > 0 {
			q["cpu"] = strconv.FormatFloat(v.cpu, 'f', -1, 64)
		}
		if v.memory > 0 {
			q["memory"] = strconv.FormatInt(v.memory, 10)
		}
		if len(q) > 0 {
			out[k] = q
		}
	}
	return out
}

func (h *Health) probe() map[string]any {
	seconds := func(s float64) int { return max(1, int(s)) }
	return map[string]any{"exec": map[string]any{"command": h.Command}, "periodSeconds": seconds(h.Interval.Seconds()), "timeoutSeconds": seconds(h.Timeout.Seconds()),
		"failureThreshold": max(1, h.Retries), "initialDelaySeconds": int(h.StartWait.Seconds())}
}

// podVolumes are a pod's volumes and where its container has them.
func (s *Service) podVolumes() (volumes, mounts []any) {
	volumes, mounts = []any{}, []any{}
	seen := map[string]bool{}
	for i, m := range s.Mounts {
		name, source := "scratch-"+strconv.Itoa(i), map[string]any{"emptyDir": map[string]any{}}
		if !m.Scratch {
			name, source = volumeName(m.Volume), map[string]any{"persistentVolumeClaim": map[string]any{"claimName": volumeName(m.Volume)}}
		}
		if !seen[name] {
			seen[name], source["name"] = true, name
			volumes = append(volumes, source)
		}
		mounts = append(mounts, map[string]any{"name": name, "mountPath": m.Path, "readOnly": m.ReadOnly})
	}
	for i, f := range s.Files {
		name := "file-" + strconv.Itoa(i)
		item := map[string]any{"key": fileKey, "path": fileKey}
		if f.Mode != nil {
			item["mode"] = *f.Mode
		}
		source := map[string]any{"name": name, "configMap": map[string]any{"name": f.Object, "items": []any{item}}}
		if f.Secret {
			source = map[string]any{"name": name, "secret": map[string]any{"secretName": f.Object, "items": []any{item}}}
		}
		volumes = append(volumes, source)
		mounts = append(mounts, map[string]any{"name": name, "mountPath": f.Path, "subPath": fileKey, "readOnly": true})
	}
	return volumes, mounts
}

// filesDigest has a service roll out anew when a file of it changes, which is mounted in a
// way that running copies do not see.
func (s *Service) filesDigest() map[string]any {
	if len(s.Files) == 0 {
		return map[string]any{}
	}
	h := sha256.New()
	for _, f := range s.Files {
		fmt.Fprintf(h, "%s %d ", f.Object, len(f.Content))
		h.Write(f.Content)
	}
	return map[string]any{"strata/files": hex.EncodeToString(h.Sum(nil)[:16])}
}
