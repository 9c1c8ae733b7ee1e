package app

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// pod is what is read of one.
type pod struct {
	Metadata meta `json:"metadata"`
	Status   struct {
		Phase      string `json:"phase"`
		Conditions []struct {
			Type, Status, Reason, Message string
		} `json:"conditions"`
		ContainerStatuses []struct {
			Name         string `json:"name"`
			RestartCount int    `json:"restartCount"`
			State        struct {
				Waiting    *state `json:"waiting"`
				Terminated *state `json:"terminated"`
			} `json:"state"`
			LastState struct {
				Terminated *state `json:"terminated"`
			} `json:"lastState"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

type state struct {
	Reason, Message string
	ExitCode        int `json:"exitCode"`
}

// troubles say why copies of an application are not ready, each once.
func (c *Cluster) troubles(ctx context.Context, name string) ([]string, error) {
	var all list[pod]
	if err := c.API.List(ctx, kubeapi.Pods, name, labelManagedBy+"="+Manager, &all); err != nil {
		return nil, err
	}
	var out []string
	for _, p := range all.Items {
		for _, why := range p.troubles() {
			if text := p.Metadata.Labels[labelName] + ": " + why; !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	return out, nil
}

func (p *pod) troubles() []string {
	var out []string
	for _, c := range p.Status.Conditions {
		if c.Type == "PodScheduled" && c.Status == "False" {
			out = append(out, "no node can take it: "+c.Message)
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		switch w, last := c.State.Waiting, c.LastState.Terminated; {
		case w == nil || w.Reason == "ContainerCreating" || w.Reason == "PodInitializing":
		case w.Reason == "CrashLoopBackOff" && last != nil:
			out = append(out, fmt.Sprintf("its program ends again and again, last with exit code %d: strata kubectl -n %s logs %s", last.ExitCode, p.Metadata.Labels[labelPartOf], p.Metadata.Name))
		default:
			out = append(out, w.Reason+": "+w.Message)
		}
	}
	return out
}
