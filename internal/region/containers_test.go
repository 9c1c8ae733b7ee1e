package region

import (
	"strings"
	"testing"
)

// TestContainersFlags refuses what makes no sense of the flags for the container engine.
func TestContainersFlags(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		says string
	}{
		{Config{}, ""},
		{Config{Containers: "yes"}, "none of auto, on and off"},
		{Config{ContainersListen: "192.0.2.1"}, "ADDRESS:PORT"},
		{Config{ContainersListen: "192.0.2.1:2376", Containers: ContainersOff}, "--containers is off"},
		{Config{ContainersRemap: "default"}, ""},
		{Config{ContainersRemap: "alice:staff", Containers: ContainersOn}, ""},
		{Config{ContainersRemap: "default:staff"}, "none of default, USER and USER:GROUP"},
		{Config{ContainersRemap: "a:b:c"}, "none of default, USER and USER:GROUP"},
		{Config{ContainersRemap: "default", Containers: ContainersOff}, "--containers is off"},
	} {
		c.cfg.DataDir = t.TempDir()
		err := c.cfg.Validate()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%+v: %v, want something with %q", c.cfg, err, c.says)
		}
	}
}
