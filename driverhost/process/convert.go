package process

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process/driverpb"
)

// maxMessage is the size in bytes that a message may have.
const maxMessage = 4 << 20

// maxUpdate is the size in bytes of what a driver may say of one volume, and the one
// at which a part of a stream is full: together they fit into a message.
const maxUpdate = 1 << 20

// maxFailure bounds the text of a failure, in bytes.
const maxFailure = 64 << 10

// codeError pairs a code on the wire with the error that drivers wrap.
type codeError struct {
	code driverpb.Code
	err  error
}

func codeErrors() []codeError {
	return []codeError{
		{driverpb.Code_CODE_INVALID_REPLICATION_TARGET, driverhost.ErrInvalidReplicationTarget},
		{driverpb.Code_CODE_UNABLE_TO_FAIL_OVER, driverhost.ErrUnableToFailOver},
		{driverpb.Code_CODE_TARGET_UNREACHABLE, driverhost.ErrTargetUnreachable},
		{driverpb.Code_CODE_FENCED, driverhost.ErrFenced},
		{driverpb.Code_CODE_BUSY, driverhost.ErrBusy},
		{driverpb.Code_CODE_LEASE_ENDED, driverhost.ErrLeaseEnded},
	}
}

// failureOf is an error as it goes over the wire; nil stays nil.
func failureOf(err error) *driverpb.Failure {
	if err == nil {
		return nil
	}
	message := err.Error()
	f := &driverpb.Failure{Message: utf8Of(message[:min(len(message), maxFailure)])}
	for _, c := range codeErrors() {
		if errors.Is(err, c.err) {
			f.Codes = append(f.Codes, c.code)
		}
	}
	return f
}

// failure is a driver's word that a call failed, as the agent sees it.
type failure struct {
	message string
	causes  []error
}

// Error implements error.
func (f *failure) Error() string { return f.message }

// Unwrap returns the errors that the driver meant.
func (f *failure) Unwrap() []error { return f.causes }

// errorOf is the inverse of failureOf. A code that is not known says nothing, so
// that the outcome counts as unknown.
func errorOf(f *driverpb.Failure) error {
	if f == nil {
		return nil
	}
	message := f.GetMessage()
	out := &failure{message: message[:min(len(message), maxFailure)]}
	for _, code := range f.GetCodes() {
		for _, c := range codeErrors() {
			if c.code == code {
				out.causes = append(out.causes, c.err)
			}
		}
	}
	if strings.TrimSpace(out.message) == "" {
		out.message = "the driver does not say why"
		if len(out.causes) > 0 {
			out.message = out.causes[0].Error()
		}
	}
	return out
}

// utf8Of makes text fit for the wire, which carries nothing but UTF-8. The name of a
// file, for one, need not be.
func utf8Of(text string) string { return strings.ToValidUTF8(text, string(utf8.RuneError)) }

func tokenToWire(t driverhost.Token) *driverpb.Token {
	return &driverpb.Token{Epoch: t.Epoch, Claim: t.Claim}
}

func tokenOf(t *driverpb.Token) driverhost.Token {
	return driverhost.Token{Epoch: t.GetEpoch(), Claim: t.GetClaim()}
}

func volumeToWire(v driverhost.Volume) *driverpb.Volume {
	return &driverpb.Volume{
		Id: utf8Of(v.ID), Name: utf8Of(v.Name), SizeGib: v.SizeGiB, Replicated: v.Replicated, ProviderId: utf8Of(v.ProviderID),
		ProviderLocation: utf8Of(v.ProviderLocation), ReplicationDriverData: utf8Of(v.ReplicationDriverData),
		Group: utf8Of(v.Group), Site: utf8Of(v.Site),
	}
}

func movesToWire(moves []driverhost.GroupMove) []*driverpb.GroupMove {
	var out []*driverpb.GroupMove
	for _, m := range moves {
		out = append(out, &driverpb.GroupMove{Id: utf8Of(m.ID), From: utf8Of(m.From), Target: utf8Of(m.Target)})
	}
	return out
}

func movesOf(moves []*driverpb.GroupMove) []driverhost.GroupMove {
	var out []driverhost.GroupMove
	for _, m := range moves {
		out = append(out, driverhost.GroupMove{ID: m.GetId(), From: m.GetFrom(), Target: m.GetTarget()})
	}
	return out
}

func volumeOf(v *driverpb.Volume) driverhost.Volume {
	return driverhost.Volume{
		ID: v.GetId(), Name: v.GetName(), SizeGiB: v.GetSizeGib(), Replicated: v.GetReplicated(), ProviderID: v.GetProviderId(),
		ProviderLocation: v.GetProviderLocation(), ReplicationDriverData: v.GetReplicationDriverData(),
		Group: v.GetGroup(), Site: v.GetSite(),
	}
}

func volumesOf(volumes []*driverpb.Volume) []driverhost.Volume {
	out := make([]driverhost.Volume, len(volumes))
	for i, v := range volumes {
		out[i] = volumeOf(v)
	}
	return out
}

// updateToWire refuses what would not fit into a message.
func updateToWire(u driverhost.VolumeUpdate) (*driverpb.VolumeUpdate, error) {
	out := &driverpb.VolumeUpdate{
		ProviderId: utf8Of(u.ProviderID), ProviderLocation: utf8Of(u.ProviderLocation),
		ReplicationExtendedStatus: utf8Of(u.ReplicationExtendedStatus), ReplicationDriverData: utf8Of(u.ReplicationDriverData),
	}
	if size := proto.Size(out); size > maxUpdate {
		return nil, fmt.Errorf("what the driver says of the volume takes %d bytes, more than the %d that are allowed", size, maxUpdate)
	}
	return out, nil
}

func updateOf(u *driverpb.VolumeUpdate) driverhost.VolumeUpdate {
	return driverhost.VolumeUpdate{
		ProviderID: u.GetProviderId(), ProviderLocation: u.GetProviderLocation(),
		ReplicationExtendedStatus: u.GetReplicationExtendedStatus(), ReplicationDriverData: u.GetReplicationDriverData(),
	}
}

func resultToWire(r driverhost.VolumeResult) (*driverpb.VolumeResult, error) {
	update, err := updateToWire(r.VolumeUpdate)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", r.VolumeID, err)
	}
	return &driverpb.VolumeResult{
		VolumeId: utf8Of(r.VolumeID), Failed: r.Failed, Error: utf8Of(r.Error[:min(len(r.Error), maxFailure)]), Update: update,
	}, nil
}

func resultOf(r *driverpb.VolumeResult) driverhost.VolumeResult {
	return driverhost.VolumeResult{
		VolumeID: r.GetVolumeId(), Failed: r.GetFailed(), Error: r.GetError(), VolumeUpdate: updateOf(r.GetUpdate()),
	}
}

// inParts calls send with consecutive parts of list, each small enough for a message.
func inParts[T proto.Message](list []T, send func([]T) error) error {
	const most = 5000
	begin, size := 0, 0
	for i, item := range list {
		grows := proto.Size(item) + 8 // with its tag and length
		if i > begin && (size+grows > maxUpdate || i-begin == most) {
			if err := send(list[begin:i]); err != nil {
				return err
			}
			begin, size = i, 0
		}
		size += grows
	}
	if begin == len(list) {
		return nil
	}
	return send(list[begin:])
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}

func statsToWire(s driverhost.Stats, err error) *driverpb.StatsResponse {
	out := &driverpb.StatsResponse{
		Failure: failureOf(err), At: nanos(s.At), TotalCapacityGib: s.TotalCapacityGiB, FreeCapacityGib: s.FreeCapacityGiB,
	}
	for _, t := range s.Targets {
		out.Targets = append(out.Targets, &driverpb.TargetStats{
			BackendId: utf8Of(t.BackendID), Healthy: t.Healthy, LastSync: nanos(t.LastSync), Lag: int64(t.Lag), Error: utf8Of(t.Error),
		})
	}
	return out
}

func statsOf(r *driverpb.StatsResponse) driverhost.Stats {
	out := driverhost.Stats{At: timeOf(r.GetAt()), TotalCapacityGiB: r.GetTotalCapacityGib(), FreeCapacityGiB: r.GetFreeCapacityGib()}
	for _, t := range r.GetTargets() {
		out.Targets = append(out.Targets, driverhost.TargetStats{
			BackendID: t.GetBackendId(), Healthy: t.GetHealthy(), LastSync: timeOf(t.GetLastSync()),
			Lag: time.Duration(t.GetLag()), Error: t.GetError(),
		})
	}
	return out
}
