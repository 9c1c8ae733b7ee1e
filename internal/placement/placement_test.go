package placement

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

type tokens map[string]*policy.Credentials

func (t tokens) Authenticate(_ context.Context, token string) (*policy.Credentials, error) {
	if c := t[token]; c != nil {
		return c, nil
	}
	return nil, errs.New(errs.Unauthenticated, "The request you have made requires authentication.")
}

func service(t interface {
	Fatal(...any)
	Cleanup(func())
	Context() context.Context
}) *Service {
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s := New(Options{DB: db, Log: log})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func serve(t *testing.T, s *Service) string {
	t.Helper()
	engine, err := policy.New("", Policies())
	if err != nil {
		t.Fatal(err)
	}
	kit := &rest.Kit{Policy: engine, Log: slog.New(slog.DiscardHandler), Metrics: rest.NewMetrics(), AuthURL: "/identity", Auth: tokens{
		"admin":   {UserID: "a", ProjectID: "adm", Roles: []string{"admin", "member", "reader"}},
		"service": {UserID: "s", ProjectID: "svc", Roles: []string{"service"}},
		"reader":  {UserID: "r", ProjectID: "p1", Roles: []string{"reader"}}}}
	h, err := kit.Handler(s.API())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// talk runs a script of requests: each line is "[token@]version METHOD path [body] => status [text that the answer holds]".
func talk(t *testing.T, url, script string) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		ask, want, _ := strings.Cut(line, " => ")
		f := strings.SplitN(strings.TrimSpace(ask), " ", 4)
		f = append(f, "")
		token, version, named := strings.Cut(f[0], "@")
		if !named {
			token, version = "admin", f[0]
		}
		req, err := http.NewRequestWithContext(t.Context(), f[1], url+"/placement"+f[2], strings.NewReader(f[3]))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Auth-Token", token)
		req.Header.Set("OpenStack-API-Version", "placement "+version)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		status, text, _ := strings.Cut(want, " ")
		if fmt.Sprint(resp.StatusCode) != status || !strings.Contains(string(raw), text) {
			t.Fatalf("%s\ngot %d %s", line, resp.StatusCode, raw)
		}
		if len(raw) > 0 && !json.Valid(raw) {
			t.Fatalf("%s\nno JSON: %s", line, raw)
		}
	}
}

const (
	a = "aaaaaaaa-0000-4000-8000-000000000001"
	b = "bbbbbbbb-0000-4000-8000-000000000002"
	c = "cccccccc-0000-4000-8000-000000000003"
	d = "dddddddd-0000-4000-8000-000000000004"
)

func TestSchemas(t *testing.T) {
	for _, r := range service(t).API().Routes {
		for _, body := range r.Body {
			if err := body.Check(); err != nil {
				t.Errorf("%s %s: %v", r.Method, r.Path, err)
			}
		}
	}
}

func TestProviders(t *testing.T) {
	talk(t, serve(t, service(t)), `
		nobody@1.0 GET / => 200 "max_version":"1.39"
		nobody@1.40 GET / => 406
		nobody@1.0 GET /resource_providers => 401
		1.0 POST /resource_providers {"name":"one","uuid":"`+a+`"} => 201
		1.39 POST /resource_providers {"name":"one"} => 409 placement.duplicate_name
		1.39 POST /resource_providers {"name":"two","uuid":"`+a+`"} => 409 placement.duplicate_name
		1.39 POST /resource_providers {"nom":"two"} => 400
		1.39 POST /resource_providers {"name":"two","uuid":"`+b+`","parent_provider_uuid":"`+a+`"} => 200 "root_provider_uuid":"`+a+`"
		1.13 POST /resource_providers {"name":"x","parent_provider_uuid":"`+a+`"} => 400
		1.39 POST /resource_providers {"name":"x","parent_provider_uuid":"`+d+`"} => 400 does not exist
		1.0 GET /resource_providers/`+a+` => 200 "generation":0
		1.39 GET /resource_providers/`+d+` => 404 placement.resource_provider.not_found
		1.39 DELETE /resource_providers/`+a+` => 409 placement.resource_provider.cannot_delete_parent
		1.36 PUT /resource_providers/`+b+` {"name":"two","parent_provider_uuid":null} => 400 un-parenting
		1.37 PUT /resource_providers/`+a+` {"name":"one","parent_provider_uuid":"`+b+`"} => 400 loop
		1.39 GET /resource_providers?in_tree=`+b+`&name=one => 200 "uuid":"`+a+`"
		1.37 PUT /resource_providers/`+b+` {"name":"three","parent_provider_uuid":null} => 200 "root_provider_uuid":"`+b+`"
		1.39 GET /resource_providers?in_tree=`+b+`&name=one => 200 []
		1.13 GET /resource_providers?in_tree=`+b+` => 400
		1.39 GET /resource_providers?uuid=x => 400
		1.39 DELETE /resource_providers/`+b+` => 204
		1.39 DELETE /resource_providers/`+b+` => 404
		reader@1.39 GET /resource_providers => 403
		service@1.39 GET /resource_providers => 200 one
		1.40 GET /resource_providers => 406
	`)
}

func TestInventories(t *testing.T) {
	p := "/resource_providers/" + a
	talk(t, serve(t, service(t)), `
		1.39 POST /resource_providers {"name":"one","uuid":"`+a+`"} => 200
		1.39 GET `+p+`/inventories => 200 {"inventories":{},"resource_provider_generation":0}
		1.39 POST `+p+`/inventories {"resource_class":"VCPU","total":8} => 201 "max_unit":2147483647
		1.39 POST `+p+`/inventories {"resource_class":"VCPU","total":8} => 409 placement.concurrent_update
		1.39 POST `+p+`/inventories {"resource_class":"CUSTOM_X","total":8} => 400 No such resource class
		1.25 POST `+p+`/inventories {"resource_class":"DISK_GB","total":8,"reserved":8} => 400 reserved
		1.26 POST `+p+`/inventories {"resource_class":"DISK_GB","total":8,"reserved":8} => 201
		1.39 PUT `+p+`/inventories/VCPU {"total":4,"resource_provider_generation":1} => 409 placement.concurrent_update
		1.39 PUT `+p+`/inventories/VCPU {"total":4,"resource_provider_generation":2,"allocation_ratio":2.5} => 200 "allocation_ratio":2.5
		1.39 PUT `+p+`/inventories/MEMORY_MB {"total":4,"resource_provider_generation":3} => 400 No inventory record
		1.39 PUT `+p+`/inventories {"resource_provider_generation":3,"inventories":{"VCPU":{"total":4},"MEMORY_MB":{"total":100}}} => 200 "resource_provider_generation":4
		1.39 PUT `+p+`/inventories {"resource_provider_generation":4,"inventories":{"VCPU":{"total":0}}} => 400
		1.39 GET `+p+`/inventories/DISK_GB => 404
		1.39 PUT /allocations/`+c+` {"allocations":{"`+a+`":{"resources":{"VCPU":2}}},"project_id":"p1","user_id":"u","consumer_generation":null,"consumer_type":"INSTANCE"} => 204
		1.39 GET `+p+`/usages => 200 "usages":{"MEMORY_MB":0,"VCPU":2}
		1.39 DELETE `+p+`/inventories/VCPU => 409 in use
		1.39 DELETE `+p+`/inventories => 409 placement.inventory.inuse
		1.39 PUT `+p+`/inventories {"resource_provider_generation":5,"inventories":{}} => 409 placement.inventory.inuse
		1.39 DELETE /resource_providers/`+a+` => 409 placement.resource_provider.inuse
		1.39 DELETE /allocations/`+c+` => 204
		1.39 DELETE `+p+`/inventories/VCPU => 204
		1.39 DELETE `+p+`/inventories/VCPU => 404
		1.4 DELETE `+p+`/inventories => 404
		1.5 DELETE `+p+`/inventories => 204
	`)
}

func TestTraitsClassesAggregates(t *testing.T) {
	p := "/resource_providers/" + a
	talk(t, serve(t, service(t)), `
		1.39 POST /resource_providers {"name":"one","uuid":"`+a+`"} => 200
		1.5 GET /traits => 404
		1.6 GET /traits?name=startswith:HW_CPU_X86_AVX512V => 200 HW_CPU_X86_AVX512VNNI
		1.6 GET /traits?name=HW => 400
		1.6 PUT /traits/HW_X => 400 CUSTOM_
		1.6 PUT /traits/CUSTOM_X => 201
		1.6 PUT /traits/CUSTOM_X => 204
		1.6 GET /traits/CUSTOM_X => 204
		1.6 GET /traits/CUSTOM_Y => 404
		1.6 PUT `+p+`/traits {"traits":["CUSTOM_X","HW_CPU_X86_VMX"],"resource_provider_generation":1} => 409
		1.6 PUT `+p+`/traits {"traits":["CUSTOM_X","HW_CPU_X86_VMX"],"resource_provider_generation":0} => 200 "resource_provider_generation":1
		1.6 PUT `+p+`/traits {"traits":["CUSTOM_Y"],"resource_provider_generation":1} => 400 No such trait
		1.6 GET /traits?associated=true => 200 {"traits":["HW_CPU_X86_VMX","CUSTOM_X"]}
		1.6 DELETE /traits/CUSTOM_X => 409 in use
		1.6 DELETE /traits/HW_CPU_X86_VMX => 400 standard
		1.39 GET /resource_providers?required=CUSTOM_X,!HW_CPU_X86_SGX => 200 one
		1.39 GET /resource_providers?required=in:HW_CPU_X86_SGX,CUSTOM_X&required=HW_CPU_X86_VMX => 200 one
		1.39 GET /resource_providers?required=!CUSTOM_X => 200 []
		1.38 GET /resource_providers?required=in:CUSTOM_X => 400
		1.39 GET /resource_providers?required=CUSTOM_X,!CUSTOM_X => 400 Conflicting
		1.6 DELETE `+p+`/traits => 204
		1.6 DELETE /traits/CUSTOM_X => 204
		1.2 POST /resource_classes {"name":"CUSTOM_GOLD"} => 201
		1.2 POST /resource_classes {"name":"CUSTOM_GOLD"} => 409
		1.2 POST /resource_classes {"name":"GOLD"} => 400
		1.6 PUT /resource_classes/CUSTOM_GOLD {"name":"CUSTOM_SILVER"} => 200 CUSTOM_SILVER
		1.7 PUT /resource_classes/CUSTOM_GOLD => 201
		1.7 PUT /resource_classes/CUSTOM_GOLD => 204
		1.7 PUT /resource_classes/GOLD => 400
		1.2 DELETE /resource_classes/VCPU => 400 standard
		1.2 DELETE /resource_classes/CUSTOM_SILVER => 204
		1.2 GET /resource_classes/CUSTOM_SILVER => 404
		1.39 POST `+p+`/inventories {"resource_class":"CUSTOM_GOLD","total":8} => 201
		1.2 DELETE /resource_classes/CUSTOM_GOLD => 409 in use
		1.1 PUT `+p+`/aggregates ["`+b+`"] => 200 {"aggregates":["`+b+`"]}
		1.39 GET `+p+` => 200 "generation":3
		1.19 PUT `+p+`/aggregates {"aggregates":["`+b+`","`+c+`"],"resource_provider_generation":2} => 409
		1.19 PUT `+p+`/aggregates {"aggregates":["`+b+`","`+c+`"],"resource_provider_generation":3} => 200 "resource_provider_generation":4
		1.39 GET /resource_providers?member_of=in:`+d+`,`+b+`&member_of=`+c+` => 200 one
		1.39 GET /resource_providers?member_of=!`+b+` => 200 []
		1.31 GET /resource_providers?member_of=!`+b+` => 400
		1.23 GET /resource_providers?member_of=`+b+`&member_of=`+c+` => 400 placement.query.duplicate_key
	`)
}

func TestAllocations(t *testing.T) {
	put := `1.39 PUT /allocations/` + c + ` `
	who := `,"project_id":"p1","user_id":"u","consumer_type":"INSTANCE","consumer_generation":`
	on := func(p, resources string) string {
		return `{"allocations":{"` + p + `":{"resources":{` + resources + `}}}`
	}
	talk(t, serve(t, service(t)), `
		1.39 POST /resource_providers {"name":"one","uuid":"`+a+`"} => 200
		1.39 POST /resource_providers {"name":"two","uuid":"`+b+`"} => 200
		1.39 PUT /resource_providers/`+a+`/inventories {"resource_provider_generation":0,"inventories":{"VCPU":{"total":4,"allocation_ratio":2,"max_unit":6},"MEMORY_MB":{"total":1024,"reserved":24,"min_unit":100,"step_size":100}}} => 200
		1.39 PUT /resource_providers/`+b+`/inventories {"resource_provider_generation":0,"inventories":{"VCPU":{"total":4}}} => 200
		1.39 PUT /allocations/x `+on(a, `"VCPU":1`)+who+`null} => 400 Malformed
		`+put+on(d, `"VCPU":1`)+who+`null} => 400 does not exist
		`+put+on(a, `"NONSENSE":1`)+who+`null} => 400 No such resource class
		`+put+on(a, `"DISK_GB":1`)+who+`null} => 409 Inventory for 'DISK_GB'
		`+put+on(a, `"VCPU":7`)+who+`null} => 409 constraints
		`+put+on(a, `"MEMORY_MB":50`)+who+`null} => 409 constraints
		`+put+on(a, `"MEMORY_MB":150`)+who+`null} => 409 constraints
		`+put+on(a, `"MEMORY_MB":1100`)+who+`null} => 409 capacity
		`+put+on(a, `"VCPU":6,"MEMORY_MB":1000`)+who+`0} => 409 placement.concurrent_update
		`+put+on(a, `"VCPU":6,"MEMORY_MB":1000`)+who+`null} => 204
		`+put+on(a, `"VCPU":6`)+who+`null} => 409 placement.concurrent_update
		1.39 GET /allocations/`+c+` => 200 {"allocations":{"`+a+`":{"generation":2,"resources":{"MEMORY_MB":1000,"VCPU":6}}},"consumer_generation":1,"consumer_type":"INSTANCE","project_id":"p1","user_id":"u"}
		1.27 GET /allocations/`+c+` => 200 {"allocations":{"`+a+`":{"generation":2,"resources":{"MEMORY_MB":1000,"VCPU":6}}},"project_id":"p1","user_id":"u"}
		# a second consumer gets what is left and no more
		1.12 PUT /allocations/`+d+` `+on(a, `"VCPU":3`)+`,"project_id":"p1","user_id":"v"} => 409 capacity
		1.0 PUT /allocations/`+d+` {"allocations":[{"resource_provider":{"uuid":"`+a+`"},"resources":{"VCPU":2}}]} => 204
		1.0 GET /resource_providers/`+a+`/usages => 200 "VCPU":8
		# a move, and a swap of two consumers in one request
		1.13 POST /allocations {"`+c+`":`+on(b, `"VCPU":4`)+`,"project_id":"p1","user_id":"u"},"`+d+`":`+on(a, `"VCPU":6`)+`,"project_id":"p2","user_id":"v"}} => 204
		1.13 POST /allocations {"`+d+`":`+on(b, `"VCPU":4`)+`,"project_id":"p2","user_id":"v"},"`+c+`":`+on(a, `"VCPU":6`)+`,"project_id":"p1","user_id":"u"}} => 204
		1.13 POST /allocations {"`+d+`":{"allocations":{},"project_id":"p2","user_id":"v"},"`+c+`":`+on(a, `"VCPU":9`)+`,"project_id":"p1","user_id":"u"}} => 409
		1.39 GET /resource_providers/`+b+`/allocations => 200 "`+d+`":{"consumer_generation":3,"resources":{"VCPU":4}}
		1.39 GET /usages?project_id=p1 => 200 {"usages":{"INSTANCE":{"VCPU":6,"consumer_count":1}}}
		1.37 GET /usages?project_id=p1&user_id=u => 200 {"usages":{"VCPU":6}}
		1.39 GET /usages?project_id=p2&consumer_type=unknown => 200 {"usages":{"unknown":{"VCPU":4,"consumer_count":1}}}
		1.39 GET /usages => 400
		reader@1.37 GET /usages?project_id=p1 => 200 VCPU
		reader@1.37 GET /usages?project_id=p2 => 403
		`+put+`{"allocations":{}`+who+`3} => 204
		1.39 GET /allocations/`+c+` => 200 {"allocations":{}}
		1.39 DELETE /allocations/`+c+` => 404 No allocations
		1.39 DELETE /allocations/`+d+` => 204
		1.39 GET /resource_providers/`+b+`/usages => 200 "VCPU":0
	`)
}

func TestReshape(t *testing.T) {
	talk(t, serve(t, service(t)), `
		1.39 POST /resource_providers {"name":"one","uuid":"`+a+`"} => 200
		1.39 POST /resource_providers {"name":"two","uuid":"`+b+`"} => 200
		1.39 PUT /resource_providers/`+a+`/inventories {"resource_provider_generation":0,"inventories":{"VGPU":{"total":4}}} => 200
		1.12 PUT /allocations/`+c+` {"allocations":{"`+a+`":{"resources":{"VGPU":4}}},"project_id":"p","user_id":"u"} => 204
		1.30 POST /reshaper {} => 403
		service@1.29 POST /reshaper {} => 404
		service@1.30 POST /reshaper {"inventories":{"`+a+`":{"resource_provider_generation":2,"inventories":{}},"`+b+`":{"resource_provider_generation":0,"inventories":{"VGPU":{"total":4}}}},"allocations":{}} => 409 placement.inventory.inuse
		service@1.30 POST /reshaper {"inventories":{"`+a+`":{"resource_provider_generation":2,"inventories":{}},"`+b+`":{"resource_provider_generation":0,"inventories":{"VGPU":{"total":4}}}},"allocations":{"`+c+`":{"allocations":{"`+b+`":{"resources":{"VGPU":4}}},"project_id":"p","user_id":"u","consumer_generation":1}}} => 204
		1.39 GET /resource_providers/`+b+`/usages => 200 "VGPU":4
		1.39 GET /resource_providers/`+a+`/inventories => 200 "inventories":{}
	`)
}

// TestClaimsNeverExceed runs parallel claims, moves and releases, and holds the
// sums against the consumers and the capacity.
func TestClaimsNeverExceed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := service(rt)
		nodes := rapid.IntRange(1, 3).Draw(rt, "nodes")
		for n := range nodes {
			err := s.EnsureProvider(rt.Context(), Node{ID: fmt.Sprint("n", n), Name: fmt.Sprint("host", n), VCPUs: rapid.IntRange(1, 3).Draw(rt, "vcpus"),
				MemoryMiB: rapid.IntRange(64, 1024).Draw(rt, "ram"), DiskGiB: 10, ReservedMemoryMiB: 32})
			if err != nil {
				rt.Fatal(err)
			}
		}
		type act struct {
			consumer, node string
			need           Need
			release        bool
		}
		acts := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) act {
			return act{fmt.Sprint("c", rapid.IntRange(0, 7).Draw(rt, "c")), fmt.Sprint("n", rapid.IntRange(0, nodes-1).Draw(rt, "n")),
				Need{VCPU: rapid.IntRange(0, 5).Draw(rt, "v"), MemoryMiB: rapid.IntRange(0, 300).Draw(rt, "m"), DiskGiB: rapid.IntRange(0, 4).Draw(rt, "d")},
				rapid.IntRange(0, 4).Draw(rt, "r") == 0}
		}), 1, 40).Draw(rt, "acts")
		var group sync.WaitGroup
		failures := make(chan error, len(acts))
		for _, x := range acts {
			group.Go(func() {
				var err error
				if x.release {
					err = s.Release(rt.Context(), x.consumer)
				} else {
					err = s.Claim(rt.Context(), x.consumer, x.node, "p", "u", x.need)
				}
				if err != nil && !errs.Is(err, errs.NoCapacity) {
					failures <- err
				}
			})
		}
		group.Wait()
		close(failures)
		for err := range failures {
			rt.Fatal(err)
		}
		balanced(rt, s)
	})
}

func balanced(t interface{ Fatalf(string, ...any) }, s *Service) {
	for _, p := range s.providers.All() {
		sum := map[string]int64{}
		for _, c := range s.consumers.By("provider", p.UUID) {
			for class, n := range c.Allocations[p.UUID] {
				sum[class] += n
			}
		}
		for class, inv := range p.Inventories {
			if sum[class] != p.Used[class] || sum[class] > inv.Capacity() {
				t.Fatalf("%s of %s: %d held, %d noted, capacity %d", class, p.Name, sum[class], p.Used[class], inv.Capacity())
			}
		}
	}
}

func TestNodes(t *testing.T) {
	s := service(t)
	ensure := func(id string, ram int, traits ...string) {
		t.Helper()
		if err := s.EnsureProvider(t.Context(), Node{ID: id, Name: "host-" + id, VCPUs: 2, MemoryMiB: ram, DiskGiB: 10, Traits: traits}); err != nil {
			t.Fatal(err)
		}
	}
	ensure("one", 1000)
	ensure("two", 2000, "HW_CPU_X86_VMX")
	before, _ := s.providers.Get(ProviderID("one"))
	ensure("one", 1000)
	after, _ := s.providers.Get(ProviderID("one"))
	if before != after || after.Inventories["VCPU"].Ratio != 16 {
		t.Errorf("EnsureProvider is not idempotent: %+v, %+v", before, after)
	}
	check := func(need Need, want string) {
		t.Helper()
		got, err := s.Candidates(t.Context(), need, nil)
		if err != nil {
			t.Fatal(err)
		}
		if list := slices.Collect(got); strings.Join(list, " ") != want {
			t.Errorf("%+v: %v, want %s", need, list, want)
		}
	}
	check(Need{VCPU: 1, MemoryMiB: 500}, "two one")
	check(Need{VCPU: 1, MemoryMiB: 1500}, "two")
	check(Need{VCPU: 1, ForbiddenTraits: []string{"HW_CPU_X86_VMX"}}, "one")
	check(Need{VCPU: 1, RequiredTraits: []string{"HW_CPU_X86_VMX"}}, "two")
	check(Need{VCPU: 3}, "")
	if err := s.Claim(t.Context(), "s1", "two", "p", "u", Need{VCPU: 1, MemoryMiB: 1200}); err != nil {
		t.Fatal(err)
	}
	check(Need{VCPU: 1, MemoryMiB: 500}, "one two")
	if err := s.Claim(t.Context(), "s2", "two", "p", "u", Need{VCPU: 1, MemoryMiB: 900}); !errs.Is(err, errs.NoCapacity) {
		t.Errorf("an overcommitted claim: %v", err)
	}
	if err := s.Claim(t.Context(), "s1", "one", "p", "u", Need{VCPU: 2, MemoryMiB: 1000}); err != nil {
		t.Errorf("a move: %v", err)
	}
	check(Need{VCPU: 1, MemoryMiB: 1}, "two")
	if err := s.RemoveProvider(t.Context(), "one"); !errs.Is(err, errs.Conflict) {
		t.Errorf("removing a node that is used: %v", err)
	}
	for range 2 {
		if err := s.Release(t.Context(), "s1"); err != nil {
			t.Fatal(err)
		}
		if err := s.RemoveProvider(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
	}
	if s.consumers.Len() != 0 || s.providers.Len() != 1 {
		t.Errorf("%d consumers, %d providers", s.consumers.Len(), s.providers.Len())
	}
}

// Several consumers change what they hold at one moment, on nodes that are full.
func TestClaimAll(t *testing.T) {
	s := service(t)
	for _, id := range []string{"one", "two"} {
		if err := s.EnsureProvider(t.Context(), Node{ID: id, Name: id, VCPUs: 2, MemoryMiB: 1000, DiskGiB: 10}); err != nil {
			t.Fatal(err)
		}
	}
	whole := Need{VCPU: 1, MemoryMiB: 1000}
	claim := func(list ...Holding) error { return s.ClaimAll(t.Context(), "p", "u", list...) }
	holds := func(want map[string]string) {
		t.Helper()
		for consumer, node := range want {
			c, err := s.consumers.Get(consumer)
			if node == "" && errs.Is(err, errs.NotFound) {
				continue
			}
			if err != nil || c.Allocations[ProviderID(node)]["MEMORY_MB"] != 1000 || len(c.Allocations) != 1 {
				t.Errorf("%s holds %+v (%v), not %s", consumer, c, err, node)
			}
		}
	}
	if err := claim(Holding{"a", "one", whole}, Holding{"b", "two", whole}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // saying it again changes nothing
		if err := claim(Holding{"a", "two", whole}, Holding{"b", "one", whole}); err != nil {
			t.Fatal(err)
		}
	}
	holds(map[string]string{"a": "two", "b": "one"})
	for _, bad := range []Holding{{"c", "one", whole}, {"c", "three", whole}} {
		if err := claim(Holding{Consumer: "a"}, bad); !errs.Is(err, errs.NoCapacity) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	holds(map[string]string{"a": "two", "b": "one", "c": ""})
	if err := claim(Holding{"c", "two", whole}, Holding{Consumer: "a"}); err != nil {
		t.Fatal(err)
	}
	holds(map[string]string{"a": "", "b": "one", "c": "two"})
}
