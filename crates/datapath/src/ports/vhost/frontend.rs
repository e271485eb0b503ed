//! What does the frontend ask for, and may it? The messages of the vhost-user protocol, in the order of its text.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    Error, GpuBackend, Result, VhostUserBackendReqHandlerMut, VhostUserProtocolFeatures,
};
use weft_host::poll::{EventFd, interest};

use super::frames::Agreed;
use super::memory::{Memory, Region, RegionSpec};
use super::queue::Queue;
use super::ring::{MOST_DESCRIPTORS, Places};
use super::{Device, PAIRS, feature};
use crate::shared::lock;

/// A frontend that is connected.
pub(super) struct Frontend {
    device: Arc<Device>,
    memory: Option<Arc<Memory>>,
    features: u64,
}

const ABSENT: Error = Error::InvalidOperation("not offered");

impl Frontend {
    pub(super) fn new(device: Arc<Device>) -> Frontend {
        Frontend { device, memory: None, features: 0 }
    }

    /// Whether features were acknowledged.
    pub(super) fn has_features(&self) -> bool {
        self.features != 0
    }

    /// The connection is over: nothing of the guest's is touched any more.
    pub(super) fn leave(&mut self) {
        for index in 0..2 * PAIRS {
            let kick = lock(&self.device.queues[index]).reset();
            self.unwatch(index, kick);
        }
        self.device.receiving.store(0, Relaxed);
        self.device.sending.store(0, Relaxed);
        self.device.features.store(0, Relaxed);
        self.memory = None;
    }

    fn check(index: u32) -> Result<usize> {
        let index = index as usize;
        if index < 2 * PAIRS { Ok(index) } else { Err(Error::InvalidParam) }
    }

    fn unwatch(&self, index: usize, kick: Option<EventFd>) {
        if let Some(kick) = kick {
            let _ = self.device.shards[self.device.shard_of(index / 2)].epoll.remove(&kick);
        }
    }

    /// Lets a queue work if it can, and tells if that changed what works.
    fn settle(&self, index: usize) {
        let device = &*self.device;
        let to_guest = index.is_multiple_of(2);
        let working = || (device.receiving.load(Relaxed), device.sending.load(Relaxed));
        let before = working();
        let (bits, bit) = (if to_guest { &device.receiving } else { &device.sending }, 1 << (index / 2));
        let mut queue = lock(&device.queues[index]);
        let works = queue.settle(to_guest, self.memory.as_ref(), Agreed::new(self.features));
        if works {
            bits.fetch_or(bit, Relaxed)
        } else {
            bits.fetch_and(!bit, Relaxed)
        };
        drop(queue);
        if before != working() {
            lock(&device.status).numa_node = self.memory.as_ref().and_then(|m| m.numa_node());
            device.tell();
        }
    }

    fn settle_all(&self) {
        (0..2 * PAIRS).for_each(|index| self.settle(index));
    }

    /// All queues work with this memory from now on.
    fn remember(&mut self, regions: Vec<Arc<Region>>) -> Result<()> {
        let memory = Memory::new(regions).ok_or(Error::InvalidParam)?;
        self.memory = Some(Arc::new(memory));
        self.settle_all();
        Ok(())
    }
}

fn spec(region: &VhostUserMemoryRegion) -> RegionSpec {
    RegionSpec {
        guest: region.guest_phys_addr,
        user: region.user_addr,
        len: region.memory_size,
        offset: region.mmap_offset,
    }
}

fn bell(file: Option<File>) -> Result<Option<EventFd>> {
    Queue::bell(file.map(OwnedFd::from)).map_err(Error::ReqHandlerError)
}

impl VhostUserBackendReqHandlerMut for Frontend {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        // Deprecated, and ambiguous: stopping is what it can mean at least.
        for index in 0..2 * PAIRS {
            lock(&self.device.queues[index]).enabled = false;
            self.settle(index);
        }
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        Err(ABSENT)
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(feature::OFFERED)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !feature::OFFERED != 0 {
            return Err(Error::InvalidParam);
        }
        self.features = features;
        self.device.features.store(features, Relaxed);
        if features & feature::PROTOCOL_FEATURES == 0 {
            // There is no message to enable queues with.
            self.device.queues.iter().for_each(|queue| lock(queue).enabled = true);
        }
        self.settle_all();
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        if regions.len() != files.len() {
            return Err(Error::IncorrectFds);
        }
        let mapped = regions.iter().zip(&files).map(|(region, file)| Region::new(spec(region), file));
        self.remember(mapped.collect::<std::io::Result<_>>().map_err(Error::ReqHandlerError)?)?;
        Ok(None)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Err(ABSENT)
    }

    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        Err(ABSENT)
    }

    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(ABSENT)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let index = Self::check(index)?;
        if num == 0 || num > MOST_DESCRIPTORS || !num.is_power_of_two() {
            return Err(Error::InvalidParam);
        }
        lock(&self.device.queues[index]).size = num as u16;
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _: VhostUserVringAddrFlags,
        descriptors: u64,
        device: u64,
        driver: u64,
        _: u64,
    ) -> Result<()> {
        let index = Self::check(index)?;
        lock(&self.device.queues[index]).places = Some(Places { descriptors, driver, device });
        self.settle(index);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let index = Self::check(index)?;
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        let mut queue = lock(&self.device.queues[index]);
        if queue.works() {
            return Err(Error::InvalidOperation("the queue works"));
        }
        queue.base = base;
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let at = Self::check(index)?;
        let (base, kick) = lock(&self.device.queues[at]).stop();
        self.unwatch(at, kick);
        self.settle(at);
        Ok(VhostUserVringState::new(index, base.into()))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let index = Self::check(index.into())?;
        // Without a doorbell the rings would have to be polled for ever.
        let kick = bell(file)?.ok_or(Error::InvalidOperation("queues without kick are not polled"))?;
        let before = lock(&self.device.queues[index]).kick.take();
        self.unwatch(index, before);
        let epoll = &self.device.shards[self.device.shard_of(index / 2)].epoll;
        epoll.add(&kick, interest::READ | interest::EDGE, index as u64).map_err(Error::ReqHandlerError)?;
        lock(&self.device.queues[index]).kick = Some(kick);
        self.settle(index);
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let index = Self::check(index.into())?;
        let call = bell(file)?;
        // What was told by the one before may not have been heard.
        call.iter().for_each(EventFd::ring);
        lock(&self.device.queues[index]).call = call;
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, _: Option<File>) -> Result<()> {
        Self::check(index.into()).map(drop)
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        // Regions one by one (CONFIGURE_MEM_SLOTS) QEMU 7.2 adds once for each pair of queues: the table is clearer.
        Ok(VhostUserProtocolFeatures::MQ)
    }

    fn set_protocol_features(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(PAIRS as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let index = Self::check(index)?;
        lock(&self.device.queues[index]).enabled = enable;
        self.settle(index);
        Ok(())
    }

    fn get_config(&mut self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Err(ABSENT)
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        Err(ABSENT)
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        Err(ABSENT)
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        Err(ABSENT)
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Err(ABSENT)
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        Err(ABSENT)
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        Err(ABSENT)
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(ABSENT)
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(ABSENT)
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        Err(ABSENT)
    }
}
