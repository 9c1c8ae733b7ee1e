package build

import (
	"context"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/strata-cloud/strata/internal/errs"
)

// exporterMoby is what docker's clients call the exporter into the engine's images.
const exporterMoby = "moby"

// mobyExporter is BuildKit's exporter of images as docker's clients expect it (moby's
// daemon/internal/builder-next/exporter/wrapper.go): names as people write them, ready
// to run, and listed without a name too.
type mobyExporter struct{ exporter.Exporter }

// Resolve implements exporter.Exporter.
func (e mobyExporter) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	out := map[string]string{string(exptypes.OptKeyUnpack): "true", string(exptypes.OptKeyDanglingPrefix): "moby-dangling"}
	for k, v := range attrs {
		out[k] = v
	}
	names, err := normalize(strings.Split(out[string(exptypes.OptKeyName)], ","))
	if err != nil {
		return nil, err
	}
	out[string(exptypes.OptKeyName)] = strings.Join(names, ",")
	out[string(exptypes.OptKeyDanglingEmptyOnly)] = "true"
	return e.Exporter.Resolve(ctx, id, out)
}

// normalize writes names out in full, each once.
func normalize(names []string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, n := range names {
		if n == "" {
			continue
		}
		r, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return nil, errs.Invalidf("invalid reference format: %s", err)
		}
		if _, ok := r.(reference.Canonical); ok {
			return nil, errs.Invalidf("build tag cannot contain a digest")
		}
		if full := reference.TagNameOnly(r).String(); !seen[full] {
			seen[full] = true
			out = append(out, full)
		}
	}
	return out, nil
}
