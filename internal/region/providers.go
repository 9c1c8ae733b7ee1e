package region

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"

	"github.com/strata-cloud/strata/internal/errs"
)

// providersFile keeps which of this machine's devices are on which provider's
// networks, so that a device that was lent once is there at every later start.
const providersFile = "provider-networks.json"

// physicalName is what upstream's configuration takes as the name of a physical network.
var physicalName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_.-]{0,63}$`)

// validProviders checks the provider's networks of the command line.
func validProviders(networks map[string]string) error {
	for name, device := range networks {
		if !physicalName.MatchString(name) {
			return errs.Invalidf("--provider-network %s=%s: a network is called by at most 64 letters, digits, dots, - and _", name, device)
		}
		if len(device) > 15 {
			return errs.Invalidf("--provider-network %s=%s: no network device has a name of more than 15 bytes", name, device)
		}
	}
	return nil
}

// providerNetworks are this machine's devices by provider's network, with those that are new.
func providerNetworks(cfg *Config) (map[string]string, error) {
	devices := map[string]string{}
	raw, err := os.ReadFile(cfg.path(providersFile))
	if err == nil {
		err = json.Unmarshal(raw, &devices)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", cfg.path(providersFile), err)
	}
	if len(cfg.ProviderNetworks) == 0 {
		return devices, nil
	}
	for name, device := range cfg.ProviderNetworks {
		if device == "" {
			delete(devices, name)
			continue
		}
		if devices[name] == device {
			continue // it may be lent already
		}
		if _, err := net.InterfaceByName(device); err != nil {
			return nil, errs.Invalidf("--provider-network %s=%s: this machine has no such device; ip link lists them", name, device)
		}
		devices[name] = device
	}
	used := map[string]string{}
	for name, device := range devices {
		if other := used[device]; other != "" {
			return nil, errs.Invalidf("--provider-network: device %s is given to both %s and %s", device, name, other)
		}
		used[device] = name
	}
	if raw, err = json.Marshal(devices); err != nil {
		return nil, err
	}
	return devices, replaceFile(cfg.path(providersFile), raw, 0o600)
}
