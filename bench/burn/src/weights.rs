//! The initial weights of a job, under our names; a linear layer's weight is [in, out] here and in burn.

use burn::module::Param;
use burn::nn::attention::MultiHeadAttention;
use burn::nn::transformer::PositionWiseFeedForward;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;

use crate::{Model, Result};

struct Store<'a> {
    tensors: SafeTensors<'a>,
    device: &'a Device,
    used: usize,
}

impl Store<'_> {
    fn read<const D: usize>(&mut self, name: &str) -> Result<Param<Tensor<D>>> {
        let view = self.tensors.tensor(name)?;
        let values: Vec<f32> = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        self.used += 1;
        let data = TensorData::new(values, view.shape().to_vec());
        Ok(Param::from_tensor(Tensor::from_data(data, self.device)))
    }

    fn linear(&mut self, layer: &mut Linear, name: &str) -> Result<()> {
        layer.weight = self.read(&format!("{name}.weight"))?;
        layer.bias = Some(self.read(&format!("{name}.bias"))?);
        Ok(())
    }

    fn norm(&mut self, layer: &mut LayerNorm, name: &str) -> Result<()> {
        layer.gamma = self.read(&format!("{name}.weight"))?;
        layer.beta = Some(self.read(&format!("{name}.bias"))?);
        Ok(())
    }

    fn attention(&mut self, layer: &mut MultiHeadAttention, name: &str) -> Result<()> {
        self.linear(&mut layer.query, &format!("{name}.query"))?;
        self.linear(&mut layer.key, &format!("{name}.key"))?;
        self.linear(&mut layer.value, &format!("{name}.value"))?;
        self.linear(&mut layer.output, &format!("{name}.output"))
    }

    fn feed_forward(&mut self, layer: &mut PositionWiseFeedForward, name: &str) -> Result<()> {
        self.linear(&mut layer.linear_inner, &format!("{name}.inner"))?;
        self.linear(&mut layer.linear_outer, &format!("{name}.outer"))
    }
}

/// Copies the weights in `path` into `model`; each must be one of its parameters.
pub(crate) fn load(model: &mut Model, path: &str, device: &Device) -> Result<()> {
    let bytes = std::fs::read(path)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let mut store = Store { tensors, device, used: 0 };
    model.embedding.weight = store.read("embedding.weight")?;
    model.output_bias = store.read("output.bias")?;
    for (i, layer) in model.encoder.layers.iter_mut().enumerate() {
        let name = format!("encoder.layers.{i}");
        store.attention(&mut layer.mha, &format!("{name}.self_attention"))?;
        store.norm(&mut layer.norm_1, &format!("{name}.self_attention_norm"))?;
        store.feed_forward(&mut layer.pwff, &format!("{name}.feed_forward"))?;
        store.norm(&mut layer.norm_2, &format!("{name}.feed_forward_norm"))?;
    }
    for (i, layer) in model.decoder.layers.iter_mut().enumerate() {
        let name = format!("decoder.layers.{i}");
        store.attention(&mut layer.self_attn, &format!("{name}.self_attention"))?;
        store.norm(&mut layer.norm_1, &format!("{name}.self_attention_norm"))?;
        store.attention(&mut layer.cross_attn, &format!("{name}.cross_attention"))?;
        store.norm(&mut layer.norm_2, &format!("{name}.cross_attention_norm"))?;
        store.feed_forward(&mut layer.pwff, &format!("{name}.feed_forward"))?;
        store.norm(&mut layer.norm_3, &format!("{name}.feed_forward_norm"))?;
    }
    match store.tensors.len() - store.used {
        0 => Ok(()),
        left => Err(format!("{left} weights that the model does not have").into()),
    }
}
